//! What PostgreSQL says against values of parameters, and what is to be done about each.
//!
//! The warnings are Patroni's: people search their logs for them.

use std::collections::BTreeMap;

/// The types and limits of parameters, from `postgres --describe-config`, by their names in lower case.
#[derive(Debug, Default)]
pub(crate) struct Described(BTreeMap<String, Limits>);

#[derive(Debug)]
struct Limits {
    /// `BOOLEAN`, `INTEGER`, `REAL`, `STRING` or `ENUM`.
    kind: String,
    lowest: String,
    highest: String,
}

impl Described {
    /// Reads columns that tabulators separate: name, context, group, type, default, lowest, highest, and prose.
    pub(crate) fn parse(text: &str) -> Self {
        let parameters = text.lines().filter_map(|line| {
            let mut columns = line.split('\t');
            let name = columns.next()?.to_ascii_lowercase();
            let kind = columns.nth(2)?.to_owned();
            let lowest = columns.nth(1)?.to_owned();
            let highest = columns.next()?.to_owned();
            Some((name, Limits { kind, lowest, highest }))
        });
        Self(parameters.collect())
    }
}

/// One line against one parameter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Objection<'a> {
    /// As PostgreSQL writes it, for example `TimeZone`.
    pub(crate) parameter: &'a str,
    line: &'a str,
    hint: &'a str,
}

/// What becomes of a value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The value to write; `None` leaves the parameter out.
    pub(crate) instead: Option<String>,
    pub(crate) warning: String,
}

/// The objections in what PostgreSQL wrote, each with the hint that follows it.
pub(crate) fn objections(complaint: &str) -> impl Iterator<Item = Objection<'_>> {
    let lines: Vec<&str> = complaint.lines().collect();
    let count = lines.len();
    (0..count).filter_map(move |index| {
        let line = lines[index];
        let (_, after) = line.split_once("parameter \"")?;
        let (parameter, _) = after.split_once('"')?;
        let hint = lines.get(index + 1).filter(|next| next.contains("HINT:")).copied().unwrap_or_default();
        Some(Objection { parameter, line, hint })
    })
}

impl Objection<'_> {
    pub(crate) fn verdict(&self, name: &str, value: &str, described: &Described) -> Verdict {
        let described = described.0.get(name);
        if let Some((given, lowest, highest, unit)) = range(self.line) {
            return if given < lowest.parse().unwrap_or(f64::MIN) {
                too_low(name, value, lowest, unit)
            } else {
                too_big(name, value, highest, unit)
            };
        }
        if let Some(limits) = described.filter(|_| self.hint.contains("Value exceeds integer range")) {
            return if value.trim_start().starts_with('-') {
                too_low(name, value, &limits.lowest, "")
            } else {
                too_big(name, value, &limits.highest, "")
            };
        }
        let kind = described.map_or("", |described| described.kind.as_str());
        let kind = match kind {
            _ if self.line.contains("requires a Boolean value") => "bool",
            _ if self.hint.contains("Available values") => "enum",
            "INTEGER" => "integer",
            "REAL" => "real",
            // Unknown to the server, or a text that it cannot use.
            _ => {
                let warning = format!("Removing unexpected parameter={name} value={value} from the config");
                return Verdict { instead: None, warning };
            }
        };
        let warning =
            format!("Removing {kind} parameter={name} from the config due to the invalid value={value}");
        Verdict { instead: None, warning }
    }
}

fn too_low(name: &str, value: &str, lowest: &str, unit: &str) -> Verdict {
    let warning = format!("Value={value} of parameter={name} is too low, increasing to {lowest}{unit}");
    Verdict { instead: Some(lowest.to_owned()), warning }
}

fn too_big(name: &str, value: &str, highest: &str, unit: &str) -> Verdict {
    let warning = format!("Value={value} of parameter={name} is too big, decreasing to {highest}{unit}");
    Verdict { instead: Some(highest.to_owned()), warning }
}

/// The value as PostgreSQL understood it, the limits, and the unit of all three:
/// `LOG:  1 kB is outside the valid range for parameter "work_mem" (64 kB .. 2147483647 kB)`, before 16 without the units
/// in parentheses.
fn range(line: &str) -> Option<(f64, &str, &str, &str)> {
    let (before, after) = line.split_once(" is outside the valid range for parameter ")?;
    let given = before.rsplit_once("LOG:").map_or(before, |(_, given)| given).trim();
    let (given, unit) = given.split_once(' ').unwrap_or((given, ""));
    let (_, limits) = after.split_once(" (")?;
    let (lowest, highest) = limits.split_once(" .. ")?;
    Some((given.parse().ok()?, first_word(lowest)?, first_word(highest)?, unit))
}

fn first_word(text: &str) -> Option<&str> {
    text.split([' ', ')']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIBED: &str = "work_mem\tuser\tResource Usage / Memory\tINTEGER\t4096\t64\t2147483647\tMemory.\t\n\
                             random_page_cost\tuser\tPlanner\tREAL\t4\t0\t1.79769e+308\tCost.\t\n\
                             TimeZone\tuser\tLocale\tSTRING\tGMT\t\t\tZone.\t\n";

    fn verdict(value: &str, complaint: &str) -> Verdict {
        let objection = objections(complaint).next().unwrap();
        let name = objection.parameter.to_ascii_lowercase();
        objection.verdict(&name, value, &Described::parse(DESCRIBED))
    }

    #[test]
    fn the_parameters_that_postgresql_complains_about_are_found_with_their_hints() {
        let complaint = "LOG:  unrecognized configuration parameter \"foo\" in file \"/x/a.conf\" line 3\n\
                         LOG:  invalid value for parameter \"wal_level\": \"much\"\n\
                         HINT:  Available values: minimal, replica, logical.\n\
                         LOG:  parameter \"fsync\" requires a Boolean value\n\
                         FATAL:  configuration file \"/x/a.conf\" contains errors\n";
        let found: Vec<_> = objections(complaint).collect();
        assert_eq!(
            found.iter().map(|found| found.parameter).collect::<Vec<_>>(),
            ["foo", "wal_level", "fsync"]
        );
        assert!(found[0].hint.is_empty() && found[1].hint.contains("minimal") && found[2].hint.is_empty());
    }

    #[test]
    fn a_number_out_of_its_range_becomes_the_nearest_one() {
        let old =
            "UTC [1] LOG:  1 kB is outside the valid range for parameter \"work_mem\" (64 .. 2147483647)";
        let new = "LOG:  1 kB is outside the valid range for parameter \"work_mem\" (64 kB .. 2147483647 kB)";
        for complaint in [old, new] {
            let Verdict { instead, warning } = verdict("1kB", complaint);
            assert_eq!(instead.as_deref(), Some("64"));
            assert_eq!(warning, "Value=1kB of parameter=work_mem is too low, increasing to 64kB");
        }
        let big =
            "LOG:  9999999 is outside the valid range for parameter \"max_files_per_process\" (64 .. 1000)";
        let Verdict { instead, warning } = verdict("9999999", big);
        assert_eq!(instead.as_deref(), Some("1000"));
        assert_eq!(
            warning,
            "Value=9999999 of parameter=max_files_per_process is too big, decreasing to 1000"
        );
        let negative =
            "LOG:  -2 is outside the valid range for parameter \"random_page_cost\" (0 .. 1.79769e+308)";
        assert_eq!(verdict("-2", negative).instead.as_deref(), Some("0"));
        let beyond = "LOG:  invalid value for parameter \"work_mem\": \"9999999999GB\"\n\
                      HINT:  Value exceeds integer range.";
        assert_eq!(verdict("9999999999GB", beyond).instead.as_deref(), Some("2147483647"));
    }

    #[test]
    fn what_cannot_be_used_is_taken_out_and_its_type_is_told() {
        for (complaint, warning) in [
            (
                "LOG:  parameter \"fsync\" requires a Boolean value",
                "Removing bool parameter=fsync from the config due to the invalid value=x",
            ),
            (
                "LOG:  invalid value for parameter \"wal_sync_method\": \"x\"\nHINT:  Available values: fsync.",
                "Removing enum parameter=wal_sync_method from the config due to the invalid value=x",
            ),
            (
                "LOG:  invalid value for parameter \"work_mem\": \"x\"",
                "Removing integer parameter=work_mem from the config due to the invalid value=x",
            ),
            (
                "LOG:  invalid value for parameter \"random_page_cost\": \"x\"",
                "Removing real parameter=random_page_cost from the config due to the invalid value=x",
            ),
            (
                "LOG:  invalid value for parameter \"TimeZone\": \"x\"",
                "Removing unexpected parameter=timezone value=x from the config",
            ),
            (
                "LOG:  unrecognized configuration parameter \"foo\" in file \"/x/a.conf\" line 3",
                "Removing unexpected parameter=foo value=x from the config",
            ),
        ] {
            assert_eq!(verdict("x", complaint), Verdict { instead: None, warning: warning.to_owned() });
        }
    }
}
