//! PostgreSQL's own grammar (of version 18, by libpg_query) reads a text.
//!
//! The tree is walked as data, every node of it, by the names of its nodes and fields: a kind of node that nobody thought of here is
//! walked through like all others, so that no write hides in it.

use crate::facts::{Access, Because, Names, Shape};
use crate::token::Strings;
use pg_query::{NodeEnum, protobuf};
use serde_json::Value;

/// The parser's option for `standard_conforming_strings = off`.
const ESCAPED_STRINGS: i32 = 32;

/// Reads a text.
pub fn read(text: &str, strings: Strings) -> (Shape, Names) {
    let options = match strings {
        Strings::Standard => 0,
        Strings::Escaped => ESCAPED_STRINGS,
    };
    // The crate looks for tables and columns on its own behind the parser, and panics at trees that it does not expect.
    let parsed = std::panic::catch_unwind(|| pg_query::parse(text, options).map(|parsed| parsed.protobuf));
    let Ok(Ok(tree)) = parsed else { return (Shape::Primary(Because::NotUnderstood), Names::default()) };
    let statement = match tree.stmts.as_slice() {
        [] => return (Shape::Empty, Names::default()),
        [only] => only.stmt.as_ref().and_then(|node| node.node.as_ref()),
        _ => return (Shape::Primary(Because::SeveralStatements), Names::default()),
    };
    match statement {
        None => (Shape::Primary(Because::NotUnderstood), Names::default()),
        Some(node) => of_statement(node),
    }
}

fn of_statement(node: &NodeEnum) -> (Shape, Names) {
    let primary = |because| (Shape::Primary(because), Names::default());
    match node {
        NodeEnum::SelectStmt(_) => walked(node),
        NodeEnum::ExplainStmt(explain) => {
            let runs = explain.options.iter().any(|option| {
                matches!(&option.node, Some(NodeEnum::DefElem(option)) if option.defname == "analyze")
            });
            let inner = explain.query.as_ref().and_then(|query| query.node.as_ref());
            match inner {
                Some(NodeEnum::SelectStmt(_)) if runs => primary(Because::ExplainsByRunning),
                Some(inner @ NodeEnum::SelectStmt(_)) => walked(inner),
                _ => primary(Because::Command),
            }
        }
        NodeEnum::CopyStmt(copy) if copy.is_from || copy.is_program || !copy.filename.is_empty() => {
            primary(Because::Copies)
        }
        NodeEnum::CopyStmt(_) => walked(node),
        NodeEnum::VariableShowStmt(show) if ASKS_FOR_ROLE.contains(&show.name.as_str()) => {
            primary(Because::AsksForRole)
        }
        NodeEnum::VariableShowStmt(_) => (Shape::Query, Names::default()),
        NodeEnum::TransactionStmt(transaction) => (of_transaction(transaction), Names::default()),
        _ => primary(Because::Command),
    }
}

/// Drivers ask for these to find the primary.
const ASKS_FOR_ROLE: [&str; 3] = ["transaction_read_only", "default_transaction_read_only", "in_hot_standby"];

fn of_transaction(transaction: &protobuf::TransactionStmt) -> Shape {
    use protobuf::TransactionStmtKind::{TransStmtBegin, TransStmtStart};
    if !matches!(transaction.kind(), TransStmtBegin | TransStmtStart) {
        return Shape::Primary(Because::EndsTransaction);
    }
    let mut access = Access::Unstated;
    for option in &transaction.options {
        let Some(NodeEnum::DefElem(option)) = &option.node else {
            return Shape::Begin(Access::NeedsPrimary);
        };
        let value = match option.arg.as_ref().and_then(|arg| arg.node.as_ref()) {
            Some(NodeEnum::AConst(value)) => value.val.as_ref(),
            _ => None,
        };
        use protobuf::a_const::Val;
        match (option.defname.as_str(), value) {
            ("transaction_read_only", Some(Val::Ival(value))) if value.ival == 1 => {
                if access == Access::Unstated {
                    access = Access::ReadOnly;
                }
            }
            ("transaction_read_only", _) => access = Access::NeedsPrimary,
            ("transaction_isolation", Some(Val::Sval(level))) if level.sval != "serializable" => {}
            ("transaction_deferrable", _) => {}
            _ => access = Access::NeedsPrimary,
        }
    }
    Shape::Begin(access)
}

fn walked(node: &NodeEnum) -> (Shape, Names) {
    let Ok(tree) = serde_json::to_value(node) else {
        return (Shape::Primary(Because::NotUnderstood), Names::default());
    };
    let mut walk = Walk::default();
    walk.value(&tree);
    match walk.writes {
        Some(because) => (Shape::Primary(because), Names::default()),
        None => (Shape::Query, walk.names),
    }
}

#[derive(Default)]
struct Walk {
    writes: Option<Because>,
    names: Names,
}

impl Walk {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.value(item)),
            Value::Object(fields) => {
                for (key, inner) in fields {
                    self.field(key, inner);
                    self.value(inner);
                }
            }
            _ => {}
        }
    }

    fn field(&mut self, key: &str, value: &Value) {
        match key {
            "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt" => {
                self.writes = Some(Because::WritesInside);
            }
            "into_clause" if !value.is_null() => self.writes = Some(Because::SelectsInto),
            "locking_clause" if value.as_array().is_some_and(|clauses| !clauses.is_empty()) => {
                self.writes = Some(Because::LocksRows);
            }
            "FuncCall" => self.names.calls.extend(strings(&value["funcname"]).last().map(str::to_owned)),
            "RangeTableSample" => {
                self.names.calls.extend(strings(&value["method"]).last().map(str::to_owned))
            }
            "AExpr" => self.names.operators.extend(operators(value)),
            "oper_name" | "use_op" => self.names.operators.extend(strings(value).last().map(str::to_owned)),
            "relname" => {
                self.names.others.extend(value.as_str().filter(|name| !name.is_empty()).map(str::to_owned));
            }
            // Of types.
            "names" => self.names.others.extend(strings(value).last().map(str::to_owned)),
            // The first part is a column, or a table whose field follows.
            "ColumnRef" => self.names.others.extend(strings(&value["fields"]).skip(1).map(str::to_owned)),
            "AIndirection" => {
                self.names.others.extend(strings(&value["indirection"]).map(str::to_owned));
            }
            _ => {}
        }
    }
}

fn operators(expression: &Value) -> Vec<String> {
    let names: &[&str] = match strings(&expression["name"]).last() {
        Some("BETWEEN" | "BETWEEN SYMMETRIC") => &[">=", "<="],
        Some("NOT BETWEEN" | "NOT BETWEEN SYMMETRIC") => &["<", ">"],
        Some(name) => return vec![name.to_owned()],
        None => &[],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The strings of a list of nodes.
fn strings(list: &Value) -> impl Iterator<Item = &str> {
    let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item["node"]["String"]["sval"].as_str())
}
