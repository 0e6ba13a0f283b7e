//! Tables with frames, as `patronictl` draws them.

use unicode_width::UnicodeWidthStr;

/// How the cells of a column stand, its heading included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table to be drawn. Cells may have several lines; then every row gets a rule below it.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Written over the start of the top border.
    pub(crate) title: Option<String>,
    pub(crate) columns: Vec<(String, Align)>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// The drawing, each line ended.
    pub(crate) fn render(&self) -> String {
        let widths = self.widths();
        let rule = rule(&widths);
        let headings: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let is_ruled = self.rows.iter().flatten().any(|cell| cell.contains('\n'));

        let mut text = self.top(&rule);
        self.row(&mut text, &headings, &widths);
        text.push_str(&rule);
        for row in &self.rows {
            self.row(&mut text, row, &widths);
            if is_ruled {
                text.push_str(&rule);
            }
        }
        if !is_ruled {
            text.push_str(&rule);
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let cells =
            |at: usize| self.rows.iter().filter_map(move |row| row.get(at)).flat_map(|cell| cell.lines());
        let columns = self.columns.iter().enumerate();
        columns.map(|(at, (name, _))| cells(at).map(width).max().unwrap_or(0).max(width(name))).collect()
    }

    fn top(&self, rule: &str) -> String {
        let Some(title) = &self.title else { return rule.to_owned() };
        let room = rule.len().saturating_sub(3); // both corners and the line end
        let shown: String = title.chars().take(room).collect();
        let rest = &rule[1 + shown.chars().count()..];
        format!("+{shown}{rest}")
    }

    fn row(&self, text: &mut String, cells: &[String], widths: &[usize]) {
        let lines: Vec<Vec<&str>> = cells.iter().map(|cell| cell.lines().collect()).collect();
        let height = lines.iter().map(Vec::len).max().unwrap_or(0).max(1);
        for at in 0..height {
            for (column, lines) in lines.iter().enumerate() {
                let cell = lines.get(at).copied().unwrap_or("");
                let padding = " ".repeat(widths[column].saturating_sub(width(cell)));
                match self.columns[column].1 {
                    Align::Left => text.push_str(&format!("| {cell}{padding} ")),
                    Align::Right => text.push_str(&format!("| {padding}{cell} ")),
                }
            }
            text.push_str("|\n");
        }
    }
}

fn rule(widths: &[usize]) -> String {
    let mut rule: String = widths.iter().map(|width| format!("+{}", "-".repeat(width + 2))).collect();
    rule.push_str("+\n");
    rule
}

/// In columns of a terminal.
fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(title: Option<&str>, rows: &[[&str; 2]]) -> String {
        Table {
            title: title.map(str::to_owned),
            columns: vec![("Member".to_owned(), Align::Left), ("TL".to_owned(), Align::Right)],
            rows: rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect(),
        }
        .render()
    }

    #[test]
    fn a_title_stands_in_the_top_border() {
        let expected = "\
+ C -----+----+
| Member | TL |
+--------+----+
| a      |  5 |
+--------+----+
";
        assert_eq!(table(Some(" C "), &[["a", "5"]]), expected);
    }

    #[test]
    fn a_title_that_is_too_long_is_cut_to_the_border() {
        let text = table(Some(" Cluster: batman (uninitialized) "), &[]);
        assert_eq!(text, "+ Cluster: bat+\n| Member | TL |\n+--------+----+\n+--------+----+\n");
    }

    #[test]
    fn cells_of_several_lines_get_rules_between_the_rows() {
        let expected = "\
+--------+----+
| Member | TL |
+--------+----+
| a      |  1 |
| b      |    |
+--------+----+
| c      | 12 |
+--------+----+
";
        assert_eq!(table(None, &[["a\nb", "1"], ["c", "12"]]), expected);
    }
}
