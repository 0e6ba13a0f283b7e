//! Every setting as a row, for the reference page.

use crate::keys::{ANY, Applies, Form, Key, ROOT};

/// One key of the local file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Dotted: `restapi.listen`.
    pub path: String,
    /// What is written behind it, in words.
    pub form: String,
    /// When a change takes effect, in words.
    pub applies: &'static str,
    /// As a person would write it; empty if there is none.
    pub default: &'static str,
    /// What it is for, with unit and range where there are any.
    pub doc: &'static str,
}

/// All settings in the order of the table, sections before what they hold. Keys without effect are left out.
pub fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    collect(ROOT, "", &mut settings);
    settings
}

fn collect(keys: &[Key], above: &str, settings: &mut Vec<Setting>) {
    for key in keys.iter().filter(|key| key.applies != Applies::Never) {
        let path = if above.is_empty() { key.name.to_owned() } else { format!("{above}.{}", key.name) };
        settings.push(Setting {
            path: path.clone(),
            form: form(key.form),
            applies: applies(key.applies),
            default: key.default,
            doc: key.doc,
        });
        if let Form::Section(inner) | Form::Open(inner) | Form::Named(inner, _) = key.form {
            collect(inner, &path, settings);
        }
        if let Form::Named(_, each) = key.form {
            collect(each, &format!("{path}.{ANY}"), settings);
        }
    }
}

fn form(form: Form) -> String {
    match form {
        Form::Text => "text".to_owned(),
        Form::Secret => "secret text".to_owned(),
        Form::Flag => "true or false".to_owned(),
        Form::Int => "whole number".to_owned(),
        Form::Number => "number".to_owned(),
        Form::Words(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Form::Texts => "list of texts, or one".to_owned(),
        Form::Any => "any".to_owned(),
        Form::Section(_) => "section".to_owned(),
        Form::Named(..) => "section, with sections of any names".to_owned(),
        Form::Open(_) => "section, open to other keys".to_owned(),
    }
}

fn applies(applies: Applies) -> &'static str {
    match applies {
        Applies::Reload => "reload",
        Applies::Restart => "restart of the agent",
        Applies::Bootstrap => "new cluster",
        Applies::Never => "never",
    }
}
