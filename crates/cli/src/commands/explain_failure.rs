//! `explain BWnnnn`: what the book says about a failure, for who has only a terminal.

use bellwether_types::Failure;

const BOOK: &str = include_str!("../../../../docs/src/reference/errors.md");

/// The section of the book; a test holds it complete.
pub(crate) fn section(failure: Failure) -> &'static str {
    let heading = format!("## {failure}");
    let Some(start) = BOOK.find(&heading) else { return failure.title() };
    let section = &BOOK[start..];
    let end = section[heading.len()..].find("\n## ").map_or(section.len(), |end| heading.len() + end);
    &section[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_section() {
        for failure in Failure::ALL {
            let lines: Vec<&str> = section(*failure).lines().collect();
            assert_eq!(lines.first(), Some(&format!("## {failure}: {}", failure.title()).as_str()));
            for part in ["**Cause.** ", "**Consequence.** ", "**Remedy.** ", "**Exit status.** "] {
                let parts = lines.iter().filter(|line| line.starts_with(part)).count();
                assert_eq!(parts, 1, "{failure} has one {part}");
            }
            assert_eq!(lines.iter().filter(|line| line.starts_with("## ")).count(), 1, "{failure}");
        }
    }

    #[test]
    fn the_book_explains_nothing_that_cannot_happen() {
        let headings: Vec<&str> = BOOK.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let known: Vec<String> =
            Failure::ALL.iter().map(|failure| format!("{failure}: {}", failure.title())).collect();
        assert_eq!(headings, known, "every code once, in order");
    }
}
