//! Lines, fields and comments, as in `pg_hba.conf` and `pg_ident.conf`.

/// One word. Quotation marks take the special meaning from `all` and its like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub quoted: bool,
    /// A comma follows: the next word belongs to the same field.
    pub continues: bool,
}

impl Token {
    /// Whether it is this keyword.
    pub fn is(&self, keyword: &str) -> bool {
        !self.quoted && self.text == keyword
    }

    /// Whether it begins like a regular expression, which a quoted word may do as well.
    pub fn is_regex(&self) -> bool {
        self.text.starts_with('/')
    }
}

/// The lines that are not empty, with their numbers (from 1; of the first, where a backslash continues a line).
pub fn lines(text: &str) -> Vec<(usize, Result<Vec<Token>, &'static str>)> {
    let mut logical = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let (number, mut whole) = open.take().unwrap_or((index + 1, String::new()));
        match line.strip_suffix('\\') {
            Some(part) => {
                whole.push_str(part);
                open = Some((number, whole));
            }
            None => {
                whole.push_str(line);
                logical.push((number, whole));
            }
        }
    }
    logical.extend(open);
    let tokens = logical.into_iter().map(|(number, line)| (number, split(&line)));
    tokens.filter(|(_, tokens)| tokens.as_ref().map_or(true, |tokens| !tokens.is_empty())).collect()
}

fn split(line: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        let mut token = Token { text: String::new(), quoted: false, continues: false };
        let mut inside = false;
        let mut length = rest.len();
        for (at, char) in rest.char_indices() {
            match char {
                '"' => {
                    inside = !inside;
                    token.quoted = true;
                }
                ',' if !inside => {
                    token.continues = true;
                    length = at + 1;
                    break;
                }
                char if !inside && (char.is_whitespace() || char == '#') => {
                    length = at;
                    break;
                }
                char => token.text.push(char),
            }
        }
        if inside {
            return Err("a quotation mark is not closed");
        }
        if token.text.is_empty() && !token.quoted {
            return Err("a comma without a name before it");
        }
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        split(line).unwrap().into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn words_quotation_marks_commas_and_comments() {
        assert_eq!(texts("host  a,b\t\"d e\",f # not, this"), ["host", "a", "b", "d e", "f"]);
        assert!(split("a , b").is_err());
        assert!(split("a \"b").is_err());
        let tokens = split("all \"all\" a,b").unwrap();
        assert!(tokens[0].is("all") && !tokens[1].is("all") && tokens[2].continues && !tokens[3].continues);
    }

    #[test]
    fn a_backslash_continues_a_line() {
        let lines = lines("# comment\nhost a \\\n b\n\nlast");
        let numbers: Vec<usize> = lines.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [2, 5]);
        assert_eq!(lines[0].1.as_ref().unwrap().len(), 3);
    }
}
