//! The plan on standard output.

use std::path::PathBuf;

use serde_json::json;

use super::{
    findings::{Findings, Situation},
    plan::Plan,
};

fn word(situation: Situation) -> &'static str {
    match situation {
        Situation::Ours => "bellwether",
        Situation::Patroni => "patroni",
        Situation::Bare => "postgresql",
        Situation::Stopped => "stopped",
        Situation::Empty => "empty",
    }
}

#[expect(clippy::print_stdout, reason = "this is the command's data")]
pub(super) fn json(findings: &Findings, plan: &Plan) {
    let document = json!({
        "version": 1,
        "member": findings.me,
        "cluster": findings.scope,
        "situation": word(findings.situation()),
        "leader": findings.is_leader(),
        "paused": findings.is_paused(),
        "facts": plan.facts,
        "obstacles": plan.obstacles,
        "steps": plan.steps,
        "not_kept": plan.not_kept,
    });
    println!("{document:#}");
}

#[expect(clippy::print_stdout, reason = "this is the command's data")]
pub(super) fn people(findings: &Findings, plan: &Plan) {
    println!("{} of cluster {}", findings.me, findings.scope);
    let list = |title: &str, texts: &[String], sign: fn(usize) -> String| {
        if !texts.is_empty() {
            println!("\n{title}");
            for (index, text) in texts.iter().enumerate() {
                println!("  {} {text}", sign(index));
            }
        }
    };
    let dash: fn(usize) -> String = |_| "-".to_owned();
    let number: fn(usize) -> String = |index| format!("{}.", index + 1);
    list("Now:", &plan.facts, dash);
    list("In the way (change this first):", &plan.obstacles, dash);
    list("What would happen:", &plan.steps, number);
    list("What is not kept as it is:", &plan.not_kept, dash);
    if plan.obstacles.is_empty() {
        println!("\nNothing stands in the way.");
    }
}

#[expect(clippy::print_stdout, reason = "this is the command's data")]
pub(super) fn installed(written: &[PathBuf]) {
    for path in written {
        println!("written: {}", path.display());
    }
    if written.is_empty() {
        println!("unit and links are there already");
    } else {
        println!("next: systemctl daemon-reload");
    }
}
