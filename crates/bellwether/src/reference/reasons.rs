//! Reasons of decisions.

use bellwether_ha::Reason;

use super::{code, head, row};

const INTRO: &str = "\
# Reasons

Every decision of the agent carries its reasons, the deciding one first, also when it does nothing. The code is stable: it stands in the
journal, in `bellwether_reason_info` and in the log; the sentence is for people, and where Patroni has one it is Patroni's. `{...}`
stands for a fact of the situation. `bellwether explain` tells them as a story.

";

pub(super) fn page() -> String {
    let mut page = format!("{INTRO}{}", head(&["code", "sentence"]));
    for (reason, sentence) in Reason::SENTENCES {
        page.push_str(&row(&[&code(reason), sentence]));
    }
    page
}
