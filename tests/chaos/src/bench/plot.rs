//! The outages as a picture: a bar per event and stack on a logarithmic scale, since they differ by a hundred times.

use std::fmt::Write as _;

use super::table::Cell;

const LEFT: f64 = 170.0;
const WIDTH: f64 = 520.0;
const BAR: f64 = 13.0;
const GAP: f64 = 14.0;
/// The ends of the scale, in milliseconds.
const SHORTEST: f64 = 1.0;
const LONGEST: f64 = 100_000.0;
const COLOURS: [&str; 5] = ["#0b7285", "#3b9aab", "#8fc4cd", "#e8590c", "#f4a261"];

/// An SVG document.
pub(super) fn svg(cells: &[Cell]) -> String {
    let (mut events, mut stacks): (Vec<&str>, Vec<&str>) = (vec![], vec![]);
    for cell in cells {
        for (known, name) in [(&mut events, &cell.event), (&mut stacks, &cell.stack)] {
            if !known.contains(&name.as_str()) {
                known.push(name);
            }
        }
    }
    let mut body = String::new();
    let mut y = 40.0;
    legend(&mut body, &stacks);
    for event in events {
        let _ =
            writeln!(body, r#"<text x="{}" y="{}" text-anchor="end">{event}</text>"#, LEFT - 8.0, y + BAR);
        for (stack, colour) in stacks.iter().zip(COLOURS.iter().cycle()) {
            let of_both = |cell: &&Cell| cell.event == event && cell.stack == *stack;
            if let Some(cell) = cells.iter().find(of_both) {
                bar(&mut body, y, cell, colour);
                y += BAR;
            }
        }
        y += GAP;
    }
    grid(&mut body, y);
    let (width, height) = (LEFT + WIDTH + 90.0, y + 30.0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// Where a time stands on the scale.
fn x(millis: f64) -> f64 {
    let part = (millis.clamp(SHORTEST, LONGEST) / SHORTEST).ln() / (LONGEST / SHORTEST).ln();
    LEFT + part * WIDTH
}

fn bar(body: &mut String, y: f64, cell: &Cell, colour: &str) {
    let (median, worst) = (x(cell.median as f64), x(cell.worst as f64));
    let middle = y + BAR / 2.0;
    let _ = writeln!(
        body,
        r#"<rect x="{LEFT}" y="{y}" width="{:.1}" height="{}" fill="{colour}"/>"#,
        median - LEFT,
        BAR - 2.0
    );
    let _ = writeln!(
        body,
        r#"<line x1="{median:.1}" y1="{middle}" x2="{worst:.1}" y2="{middle}" stroke="{colour}"/>"#
    );
    let _ = writeln!(
        body,
        r#"<text x="{:.1}" y="{}" font-size="10">{} / {}</text>"#,
        worst + 4.0,
        y + BAR - 3.0,
        cell.median,
        cell.worst
    );
}

fn legend(body: &mut String, stacks: &[&str]) {
    for ((number, stack), colour) in (0..).zip(stacks).zip(COLOURS.iter().cycle()) {
        let at = LEFT + 130.0 * f64::from(number);
        let _ = writeln!(body, r#"<rect x="{at}" y="10" width="12" height="12" fill="{colour}"/>"#);
        let _ = writeln!(body, r#"<text x="{}" y="20">{stack}</text>"#, at + 16.0);
    }
}

fn grid(body: &mut String, bottom: f64) {
    for (millis, label) in
        [(1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1e3, "1 s"), (1e4, "10 s"), (1e5, "100 s")]
    {
        let at = x(millis);
        let _ = writeln!(body, r##"<line x1="{at:.1}" y1="32" x2="{at:.1}" y2="{bottom}" stroke="#ddd"/>"##);
        let _ =
            writeln!(body, r#"<text x="{at:.1}" y="{}" text-anchor="middle">{label}</text>"#, bottom + 16.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_time_is_a_fifth_of_the_scale_shorter() {
        let step = WIDTH / 5.0;
        assert!((x(1_000.0) - x(100.0) - step).abs() < 1e-6);
        assert!((x(0.0) - LEFT).abs() < 1e-6, "nothing at all is the left end");
    }
}
