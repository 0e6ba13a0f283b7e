//! What is wrong with a command line or a configuration, and what is said about it.

use bellwether_cli::run_patronictl;

use crate::{screen::Screen, world::World};

#[tokio::test]
async fn wrong_words_end_with_usage() {
    let world = World::new().await;
    let ended = world.patronictl(&["lost"], &[]).await;
    assert_eq!(ended.status, 2);
    assert!(
        ended.err.starts_with("Usage: patronictl") && ended.err.ends_with("Error: No such command 'lost'.\n"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("Try 'patronictl --help' for help."), "{}", ended.err);
    for words in [&["list", "--lost"][..], &["restart"], &["flush", "demo"], &["list", "-f", "xml"]] {
        let ended = world.patronictl(words, &[]).await;
        assert_eq!(ended.status, 2, "{words:?}: {}", ended.err);
    }
    let screen = Screen::default();
    let status = run_patronictl(vec!["patronictl".into()], world.surroundings(&screen)).await;
    assert_eq!(status, 2, "no command at all");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_is_named() {
    let world = World::new().await;
    let screen = Screen::default();
    let line = ["patronictl", "-c", "/nowhere/x.yml", "list"].map(Into::into).to_vec();
    assert_eq!(run_patronictl(line, world.surroundings(&screen)).await, 1);
    assert_eq!(
        screen.err(),
        "Error: Provided config file /nowhere/x.yml not existing or no read rights. Check the -c/--config-file parameter\n"
    );
    std::fs::write(world.config_file(), "scope: [broken\n").unwrap();
    let ended = world.patronictl(&["list"], &[]).await;
    assert_eq!(ended.status, 1);
    assert!(ended.err.contains("demo.yml:"), "{}", ended.err);
}

#[tokio::test]
async fn the_environment_names_the_configuration() {
    let mut world = World::new().await;
    let file = world.config_file();
    world.set_env("PATRONICTL_CONFIG_FILE", file.to_str().unwrap());
    let screen = Screen::default();
    let status = run_patronictl(vec!["patronictl".into(), "list".into()], world.surroundings(&screen)).await;
    assert_eq!(status, 0, "{}", screen.err());
    assert!(screen.out().contains("Cluster: demo"));
}

#[tokio::test]
async fn a_store_that_does_not_open_comes_with_help() {
    let world = World::new().await;
    let ended = world.bellwether(&["list", "down"], &[]).await;
    assert_eq!(ended.status, 1);
    assert!(
        ended.err.starts_with("Error: could not open the store: nobody answers at 127.0.0.1:1\n"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("  help: "), "{}", ended.err);
}

#[tokio::test]
async fn completion_and_manual_pages_know_every_command() {
    let world = World::new().await;
    let script = world.bellwether(&["completion", "bash"], &[]).await;
    assert!(script.out.contains("switchover") && script.out.contains("support-bundle"));
    let page = world.bellwether(&["man"], &[]).await.out;
    assert!(page.contains(".TH") && page.contains("switchover"), "{page}");
    let dir = world.dir.path().join("man");
    let ended = world.bellwether(&["man", "--dir", dir.to_str().unwrap()], &[]).await;
    assert_eq!(ended.status, 0, "{}", ended.err);
    let page = std::fs::read_to_string(dir.join("bellwether-edit-config.1")).unwrap();
    assert!(page.contains("Change the dynamic configuration"), "{page}");
}
