//! A network namespace in the place of a host: with a loopback and an interface of its own, and nothing that leads out of it.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    process::{Child, Command, Stdio},
};

use tokio::task::JoinHandle;

use crate::links;

/// The name of its interface.
pub const INTERFACE: &str = "vip0";

/// A namespace. It ends with whatever runs in it and with this value.
#[derive(Debug)]
pub struct Namespace {
    holder: Child,
    forwarders: Vec<JoinHandle<()>>,
}

impl Namespace {
    /// Makes one. Needs root.
    pub fn make() -> Self {
        let script = format!(
            "ip link set lo up && ip link add {INTERFACE} type veth peer name other && ip link set {INTERFACE} up \
             && ip link set other up && echo made && exec cat"
        );
        let mut holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("setpriv and unshare are installed");
        let mut line = String::new();
        let output = holder.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("it can be read from");
        assert_eq!(line, "made\n", "a network namespace can be made (by root)");
        Self { holder, forwarders: Vec::new() }
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// A program that runs inside, and does not outlive the test.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).args(["setpriv", "--pdeathsig", "KILL", program]);
        command
    }

    /// The addresses of its interface.
    pub fn addresses(&self) -> String {
        let output = self.command("ip").args(["-4", "-o", "address", "show", "dev", INTERFACE]).output();
        String::from_utf8(output.expect("nsenter is installed").stdout).expect("addresses are text")
    }

    /// From now on a port of the loopback inside leads to the same one outside.
    pub fn let_out(&mut self, port: u16) {
        let inside = File::open(self.path()).expect("the namespace is there");
        // A thread of its own: a socket belongs to the namespace of the thread that opens it.
        let listening = std::thread::spawn(move || {
            rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&inside),
                Some(rustix::thread::LinkNameSpaceType::Network),
            )
            .expect("root may enter a namespace");
            TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).expect("nobody else is inside")
        });
        let listener = listening.join().expect("the port is free inside");
        listener.set_nonblocking(true).expect("an option of every socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("it listens");
        self.forwarders.push(links::forward_all(listener, port));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        for forwarder in &self.forwarders {
            forwarder.abort();
        }
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
