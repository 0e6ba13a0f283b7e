//! Providers that are called by a program: a script of the site's own, or the tool of AWS, which knows how to prove who it is.

use std::process::{Output, Stdio};

use bellwether_config::sections::vip::Provider;
use tokio::process::Command;

use super::{Order, Trouble};

/// What a program ends with that is to be tried again (EX_TEMPFAIL).
const AGAIN: i32 = 75;
/// What `timeout` ends with when the program took too long.
const TOOK_TOO_LONG: i32 = 124;

/// Runs the configured words; what it is about is in the environment.
pub(super) async fn exec(provider: &Provider, order: &Order) -> Result<(), Trouble> {
    let mut command = program(provider, &provider.command);
    for (name, value) in [
        ("ACTION", order.action),
        ("ENTRY", &order.entry),
        ("ADDRESS", &order.address),
        ("CLUSTER", &order.cluster),
        ("MEMBER", &order.member),
        ("ROLE", order.role),
        ("TRANSITION_ID", &order.transition_id),
        ("ATTEMPT", &order.attempt.to_string()),
    ] {
        command.env(format!("BELLWETHER_{name}"), value);
    }
    judge(&provider.command[0], &run(&mut command).await?)
}

/// An Elastic IP, by `aws ec2`: the instance's own role may do it.
pub(super) async fn aws(provider: &Provider) -> Result<(), Trouble> {
    let (id, instance) =
        (provider.id.clone().unwrap_or_default(), provider.server.clone().unwrap_or_default());
    let ec2 = |words: &[&str]| {
        let words = ["aws", "ec2"].iter().chain(words).map(|word| (*word).to_owned());
        program(provider, &words.collect::<Vec<_>>())
    };
    let query = ["--query", "Addresses[0].InstanceId", "--output", "text"];
    let asking = [&["describe-addresses", "--allocation-ids", &id][..], &query].concat();
    let is_ours = async || {
        let output = run(&mut ec2(&asking)).await?;
        judge_aws(&output)?;
        Ok(String::from_utf8_lossy(&output.stdout).trim() == instance)
    };
    if is_ours().await? {
        return Ok(());
    }
    let words =
        ["associate-address", "--allocation-id", &id, "--instance-id", &instance, "--allow-reassociation"];
    judge_aws(&run(&mut ec2(&words)).await?)?;
    match is_ours().await? {
        true => Ok(()),
        false => Err(Trouble::Again(format!("{id} was told to lead to {instance}, and does not yet"))),
    }
}

/// `timeout` ends it, whatever becomes of us.
fn program(provider: &Provider, words: &[String]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", &provider.timeout.as_secs().max(1).to_string()]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn run(command: &mut Command) -> Result<Output, Trouble> {
    command.output().await.map_err(|error| Trouble::Refused(error.to_string()))
}

fn judge(name: &str, output: &Output) -> Result<(), Trouble> {
    let said = last_line(&output.stderr);
    match output.status.code() {
        Some(0) => Ok(()),
        Some(AGAIN) => Err(Trouble::Again(format!("{name} says that it is to be tried again: {said}"))),
        Some(TOOK_TOO_LONG) => Err(Trouble::Again(format!("{name} took longer than it may"))),
        _ => Err(Trouble::Refused(format!("{name} ended with {}: {said}", output.status))),
    }
}

/// Its statuses say little: throttling and a network that fails pass.
fn judge_aws(output: &Output) -> Result<(), Trouble> {
    if output.status.success() {
        return Ok(());
    }
    let said = last_line(&output.stderr);
    let is_final = ["UnauthorizedOperation", "InvalidAllocationID", "InvalidInstanceID", "AuthFailure"];
    let refuses = output.status.code() == Some(127) || is_final.iter().any(|code| said.contains(code));
    Err(if refuses { Trouble::Refused(said) } else { Trouble::Again(said) })
}

fn last_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it says nothing").to_owned()
}
