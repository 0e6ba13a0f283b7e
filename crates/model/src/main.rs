//! `bellwether-model [STATES]`: searches further than the tests do, in each configuration so many states (default 20 million).

use std::{
    io::{self, Write},
    process::ExitCode,
};

use bellwether_model::{Bounds, Guard, Protocol, search};

fn main() -> io::Result<ExitCode> {
    let at_most = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20_000_000);
    let (three, five) = (Protocol::of_three(None), Protocol::of_five(None));
    let with = |protocol: &Protocol, bounds: Bounds| Protocol { bounds, ..protocol.clone() };
    let cases = [
        ("three members, no crash", with(&three, Bounds { crashes: 0, ..three.bounds })),
        ("three members", three.clone()),
        (
            "three members, two commits, two crashes",
            with(&three, Bounds { commits: 2, crashes: 2, ..three.bounds }),
        ),
        ("three members, /sync changes", with(&three, Bounds { changes_sync: true, ..three.bounds })),
        ("three members, a second leader", with(&three, Bounds { second_leader: true, ..three.bounds })),
        ("five members", five.clone()),
        ("five members, /sync changes", with(&five, Bounds { changes_sync: true, writes: 1, ..five.bounds })),
    ];
    let mut out = io::stdout().lock();
    let mut is_fine = true;
    for (case, protocol) in cases {
        for (place, beginning) in
            [("", protocol.beginning()), (", a take-over on its way", protocol.on_its_way())]
        {
            let report = search(&protocol, beginning, at_most);
            let whole = if report.is_whole { "all" } else { "as many as were asked for" };
            let (states, takeovers) = (report.states, report.takeovers);
            writeln!(
                out,
                "{case}{place}: {states} states, {whole}; {takeovers} after a take-over from a living primary"
            )?;
            if let Some(steps) = report.lost_by {
                writeln!(out, "  LOST by {steps:?}")?;
                is_fine = false;
            }
        }
    }
    let second = with(&three, Bounds { second_leader: true, ..three.bounds });
    let report = search(&second, second.taken_over(), at_most);
    writeln!(
        out,
        "three members, after a take-over: {} states, lost by {:?}",
        report.states, report.lost_by
    )?;
    is_fine &= report.lost_by.is_none();
    for guard in Guard::ALL {
        let protocol = Protocol::of_three(Some(guard));
        let bounds = Bounds {
            changes_sync: guard == Guard::ComparesSync,
            second_leader: matches!(guard, Guard::ReplacedStops | Guard::ReadsAfterLock),
            crashes: u8::from(guard == Guard::DurablePromise),
            ..protocol.bounds
        };
        let protocol = with(&protocol, bounds);

        let beginning = match guard {
            Guard::ComparesSync | Guard::DurablePromise => protocol.on_its_way(),
            Guard::ReplacedStops | Guard::ReadsAfterLock => protocol.taken_over(),
            _ => protocol.beginning(),
        };
        let report = search(&protocol, beginning, at_most);
        writeln!(out, "without {guard:?}: {} states, {:?}", report.states, report.lost_by)?;
        is_fine &= report.lost_by.is_some();
    }
    Ok(if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
