//! Whatever the scanner says, the grammar must agree with.

use crate::corpus;
use bellwether_sql::effect::{Effect, Span, Which, effects};
use bellwether_sql::facts::{Because, Shape};
use bellwether_sql::token::{Strings, scan};
use bellwether_sql::{Judge, Reader, catalogue::Catalogue, fast, grammar};
use pg_query::NodeEnum;
use pg_query::protobuf::VariableSetKind;
use proptest::prelude::*;
use std::sync::Arc;

/// Holds the fast path's answer against the grammar's. Says whether there was one.
fn agree(text: &str) -> bool {
    let Ok(scan) = scan(text, Strings::Standard) else { return false };
    let Some((fast_shape, fast_names)) = fast::read(&scan) else { return false };
    let (shape, names) = grammar::read(text, Strings::Standard);
    match (&fast_shape, &shape) {
        // A replica refuses what is no statement as a primary does.
        (Shape::Query, Shape::Primary(Because::NotUnderstood)) => {}
        (Shape::Query, Shape::Query) => {
            for (fast, exact) in [
                (&fast_names.calls, &names.calls),
                (&fast_names.operators, &names.operators),
                (&fast_names.others, &names.others),
            ] {
                let missed: Vec<_> = exact.difference(fast).collect();
                assert!(missed.is_empty(), "{text}: the fast path misses {missed:?}");
            }
        }
        (Shape::Begin(fast), Shape::Begin(exact)) => assert_eq!(fast, exact, "{text}"),
        (Shape::Empty, _) => assert_eq!(shape, Shape::Empty, "{text}"),
        // To send something to the primary is never wrong.
        (Shape::Primary(_), _) => {}
        (fast, _) => panic!("{text}: {fast:?}, and the grammar says {shape:?}"),
    }
    fast_shape == Shape::Query
}

#[test]
#[expect(clippy::print_stdout, reason = "for whoever reads another corpus")]
fn the_fast_path_agrees_with_the_grammar_on_the_corpus() {
    let (mut answered, mut all) = (0, 0);
    for file in corpus::all() {
        for statement in &file.statements {
            all += 1;
            answered += usize::from(agree(statement));
        }
    }
    println!("{answered} of {all} statements are plain queries");
    assert!(answered > 20, "of {all}");
}

/// Words from which queries of all kinds are made, sensible or not.
fn word() -> impl Strategy<Value = String> {
    let words = "select from where and or not in is null true as order by limit join left on using distinct case when then else end \
        union all exists between for update of share into with t a b f nextval type name value count \"Q\" insert set skip locked \
        only values table lateral filter over window within array row any some like ilike similar escape at time zone \
        nowait no key cast extract year collate interval date timestamp ( ( ( ) ) ) , , . * = <> != < || + - ; :: [ ] $1 1 2.5 'x' E'y' \
        $$z$$ /*c*/ -- tablesample fetch first rows materialized grouping sets cube rollup user current_user coalesce nullif \
        xmlelement trim overlay position substring default begin read only";
    prop::sample::select(words.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>())
}

/// More than usual, as it takes little; `PROPTEST_CASES` sets another number.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(3_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_fast_path_agrees_with_the_grammar_on_anything(words in prop::collection::vec(word(), 0..14)) {
        agree(&format!("select {}", words.join(" ")));
        agree(&words.join(" "));
    }

    #[test]
    fn no_text_makes_the_scanner_fail(text in "\\PC{0,60}") {
        let _ = scan(&text, Strings::Escaped);
        agree(&text);
        effects(&text, Strings::Standard);
    }
}

/// What a statement leaves behind, by the grammar; `None`: the grammar does not know the text, or it is not compared.
fn by_grammar(text: &str) -> Option<Vec<Effect>> {
    let tree = pg_query::parse(text, 0).ok()?.protobuf;
    let [statement] = tree.stmts.as_slice() else { return None };
    let which = |all: bool, name: &str| if all { Which::All } else { Which::One(name.to_owned()) };
    let temporary =
        |persistence: &str| if persistence == "t" { vec![Effect::MakesTemporary] } else { vec![] };
    Some(match statement.stmt.as_ref()?.node.as_ref()? {
        NodeEnum::ListenStmt(_) => vec![Effect::Listens],
        NodeEnum::UnlistenStmt(it) => {
            vec![Effect::Unlistens(which(it.conditionname.is_empty(), &it.conditionname))]
        }
        NodeEnum::LoadStmt(_) => vec![Effect::Loads],
        NodeEnum::PrepareStmt(it) => vec![Effect::Prepares(it.name.clone())],
        NodeEnum::DeallocateStmt(it) => vec![Effect::Deallocates(which(it.isall, &it.name))],
        NodeEnum::ClosePortalStmt(it) => {
            vec![Effect::ClosesCursor(which(it.portalname.is_empty(), &it.portalname))]
        }
        NodeEnum::DeclareCursorStmt(it) if it.options & 0x20 != 0 => {
            vec![Effect::HoldsCursor(it.portalname.clone())]
        }
        NodeEnum::CreateStmt(it) => temporary(&it.relation.as_ref()?.relpersistence),
        NodeEnum::ViewStmt(it) => temporary(&it.view.as_ref()?.relpersistence),
        NodeEnum::CreateSeqStmt(it) => temporary(&it.sequence.as_ref()?.relpersistence),
        NodeEnum::CreateTableAsStmt(it) => temporary(&it.into.as_ref()?.rel.as_ref()?.relpersistence),
        NodeEnum::SelectStmt(it) if it.into_clause.is_some() => {
            temporary(&it.into_clause.as_ref()?.rel.as_ref()?.relpersistence)
        }
        NodeEnum::VariableSetStmt(it) => {
            let name = it.name.to_ascii_lowercase();
            let span = if it.is_local { Span::Transaction } else { Span::Session };
            match it.kind() {
                VariableSetKind::VarResetAll => vec![Effect::Resets(Which::All)],
                VariableSetKind::VarReset => vec![Effect::Resets(Which::One(name))],
                VariableSetKind::VarSetMulti if name == "session characteristics" => {
                    vec![Effect::Sets { parameter: "default_transaction_*".into(), span }]
                }
                VariableSetKind::VarSetMulti => vec![],
                _ => vec![Effect::Sets { parameter: name, span }],
            }
        }
        NodeEnum::DiscardStmt(_) | NodeEnum::DoStmt(_) => return None,
        _ => vec![],
    })
}

#[test]
fn the_effects_agree_with_the_grammar_on_the_corpus() {
    let mut compared = 0;
    for file in corpus::all() {
        for statement in &file.statements {
            let Some(expected) = by_grammar(statement) else { continue };
            compared += 1;
            let found = effects(statement, Strings::Standard);
            for effect in &expected {
                assert!(found.contains(effect), "{}: {statement}\n{found:?} lacks {effect:?}", file.name);
            }
            // Beyond that only what functions do is found, and whatever mentions pg_temp.
            let more = found.iter().filter(|effect| !expected.contains(effect));
            for effect in more {
                let by_function = statement.to_ascii_lowercase().contains("advisory")
                    || statement.to_ascii_lowercase().contains("set_config");
                let allowed = by_function || matches!(effect, Effect::MakesTemporary);
                assert!(allowed, "{}: {statement}\n{effect:?} is not there", file.name);
            }
        }
    }
    assert!(compared > 100);
}

/// A value as it may stand in a text, and another one of the same kind.
fn values() -> impl Strategy<Value = (String, String)> {
    prop_oneof![
        6 => (word(), Just(())).prop_map(|(word, ())| (word.clone(), word)),
        2 => ("[0-9]{1,12}", "[0-9]{1,12}"),
        1 => ("[0-9]{1,3}\\.[0-9]{1,3}", "[0-9]{1,9}"),
        2 => ("'[a-z0-9 /*$\"-]{0,8}'", "'[a-z0-9 ;()ü-]{0,8}(''x)?'"),
    ]
}

/// What follows for a text where it is alone, and behind another one that may have the same pattern.
fn judged_alike(catalogue: &Arc<Catalogue>, before: &str, text: &str) {
    let mut judge = Judge::new(1 << 20);
    judge.learn(Some(Arc::clone(catalogue)));
    let mut reader = Reader::new(1 << 20);
    judge.verdict(&mut reader, before.as_bytes());
    let verdict = judge.verdict(&mut reader, text.as_bytes());
    let facts = reader.facts(text.as_bytes(), Strings::Standard);
    // A server refuses it as well.
    if facts.shape != Shape::Primary(Because::NotUnderstood) {
        assert_eq!(verdict.class, facts.class(Some(catalogue)), "{text}\nbehind {before}");
    }
    assert_eq!(verdict.hint, facts.hint, "{text}\nbehind {before}");
}

/// Of a database in which everything is safe that is no word of those above.
fn catalogue() -> Arc<Catalogue> {
    let rows = ["count", "coalesce", "extract", "a", "f"].map(|name| ("safe_function", name));
    Arc::new(Catalogue::from_rows(rows.into_iter().chain([("operator", "<>"), ("relation", "Q")])).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn oracle_texts_of_one_pattern_are_judged_alike(
        first in prop::sample::select(vec!["select", "with", "explain", "copy", "begin", "set", "show", "insert into", "("]),
        words in prop::collection::vec(values(), 0..12),
        space in prop::sample::select(vec![" ", "", "\n", " /* bellwether: leader */ "]),
    ) {
        let text = |pick: fn(&(String, String)) -> &str| {
            let words: Vec<&str> = words.iter().map(pick).collect();
            format!("{first} {}", words.join(space))
        };
        judged_alike(&catalogue(), &text(|pair| &pair.0), &text(|pair| &pair.1));
    }
}

#[test]
fn the_corpus_is_judged_alike_with_other_values() {
    let catalogue = catalogue();
    for file in corpus::all() {
        for statement in &file.statements {
            let others = statement.replace(['1', '3'], "7").replace("'a'", "'other'");
            judged_alike(&catalogue, &others, statement);
            judged_alike(&catalogue, statement, &others);
        }
    }
}
