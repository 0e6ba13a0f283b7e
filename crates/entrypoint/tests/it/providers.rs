//! A provider is told where an address belongs, again until it works, by the leader alone, and what it did is read back.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use bellwether_config::sections::vip::{
    Announce, Fallback, Provider, ProviderKind, Vip, VipAddress, VipEntry, VipKind,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::member::{Member, until};

fn vip(provider: Provider) -> Vip {
    let address = VipAddress { ip: "10.0.0.200".parse().unwrap(), prefix_len: 32 };
    let entry = VipEntry {
        kind: VipKind::Leader,
        addresses: vec![address],
        interface: None,
        max_lag: 0,
        fallback: Fallback::Nobody,
        provider: Some(provider),
    };
    let entries = BTreeMap::from([("main".to_owned(), entry)]);
    Vip { kernel_lifetime: true, announce: Announce::default(), entries }
}

fn provider(kind: ProviderKind) -> Provider {
    Provider {
        kind,
        url: None,
        server: None,
        id: None,
        credentials_file: None,
        command: vec![],
        timeout: Duration::from_secs(5),
        verify: Duration::from_millis(200),
    }
}

fn member(name: &str, provider: Provider) -> Member {
    Member::start_with(name, "10.0.0.1".parse().unwrap(), None, vip(provider))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_is_called_until_it_works_and_only_by_the_leader() {
    let dir = tempfile::tempdir().unwrap();
    let (script, log) = (dir.path().join("move"), dir.path().join("log"));
    let text = format!(
        "#!/bin/sh\necho $BELLWETHER_ACTION $BELLWETHER_ENTRY $BELLWETHER_ADDRESS $BELLWETHER_MEMBER $BELLWETHER_TRANSITION_ID \
         $BELLWETHER_ATTEMPT >>{0}\n[ $BELLWETHER_ATTEMPT -ge 2 ] || [ $BELLWETHER_ACTION = verify ] || exit 75\n",
        log.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let command = vec![script.display().to_string()];
    let settings = Provider { command, ..provider(ProviderKind::Exec) };
    let a = member("a", settings.clone());
    let lines =
        || fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    a.leads(5, vec![]);
    until("it is held", || a.entry().held).await;
    until("it is looked at again", || lines().len() >= 4).await;
    let expected = [
        "acquire main 10.0.0.200 a main-5 1",
        "acquire main 10.0.0.200 a main-5 2",
        "verify main 10.0.0.200 a main-5 1",
    ];
    assert_eq!(lines()[..3], expected);

    a.follows();
    until("no longer held", || !a.entry().held).await;
    // One call may have been under way; while another member's go on, there is no second one.
    let of = |member: &str| lines().iter().filter(|line| line.contains(&format!(" {member} "))).count();
    let (known, b) = (of("a"), member("b", settings));
    b.leads(6, vec![]);
    until("the other is called several times", || of("b") >= 5).await;
    assert!(of("a") <= known + 1, "{:?}", lines());
}

/// As much of the provider's interface as is needed: whom the address leads to, and how often it lies before that.
async fn robot(active: Arc<Mutex<String>>, lies: Arc<Mutex<u32>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let mut length = 0;
            while !is_whole(&request[..length]) {
                length += stream.read(&mut request[length..]).await.unwrap();
            }
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let may = request.contains("authorization: Basic dTpw");
            let mut status = if may { "200 OK" } else { "401 Unauthorized" };
            if may && let Some((_, server)) = request.split_once("active_server_ip=") {
                let mut lies = lies.lock().unwrap();
                match *lies {
                    0 => *active.lock().unwrap() = server.to_owned(),
                    1 => {
                        *lies = 0;
                        status = "429 Too Many Requests";
                    }
                    _ => *lies -= 1,
                }
            }
            let body = format!("{{\"failover\": {{\"active_server_ip\": \"{}\"}}}}", active.lock().unwrap());
            let answer = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    port
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hetzner_says_it_did_is_read_back() {
    let (active, lies) = (Arc::new(Mutex::new("192.0.2.1".to_owned())), Arc::new(Mutex::new(2)));
    let port = robot(active.clone(), lies.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let credentials = dir.path().join("credentials");
    fs::write(&credentials, "u:p\n").unwrap();
    let settings = Provider {
        url: Some(format!("http://127.0.0.1:{port}")),
        server: Some("192.0.2.2".into()),
        credentials_file: Some(credentials.clone()),
        ..provider(ProviderKind::HetznerRobot)
    };
    let b = member("b", settings.clone());
    b.leads(6, vec![]);
    until("it is held", || b.entry().held).await;
    assert_eq!((active.lock().unwrap().as_str(), *lies.lock().unwrap()), ("192.0.2.2", 0));
    assert!(
        b.told
            .lock()
            .unwrap()
            .iter()
            .any(|told| told["because"].to_string().contains("leads to `192.0.2.1`"))
    );

    // A slow call of the former leader arrives after all.
    *active.lock().unwrap() = "192.0.2.1".to_owned();
    until("it is called back", || active.lock().unwrap().as_str() == "192.0.2.2").await;

    fs::write(&credentials, "u:wrong").unwrap();
    let c = member("c", settings);
    c.leads(7, vec![]);
    c.fails_with("401").await;
    assert!(!c.entry().last_error.unwrap().contains("wrong"));
}
