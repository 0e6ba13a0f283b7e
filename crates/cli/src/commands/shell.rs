//! `completion` and `man`: made from the program's own command line, so they can't fall behind it.

use std::{fs, path::Path};

use clap_mangen::Man;

use crate::{
    command::{CompletionArgs, ManArgs},
    error::CliError,
    manner::Outcome,
    terminal::Dialogue,
};

pub(crate) fn completion(
    talk: &mut Dialogue,
    args: &CompletionArgs,
    mut program: clap::Command,
) -> Result<Outcome, CliError> {
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, name, &mut script);
    talk.terminal.out(&String::from_utf8_lossy(&script));
    Ok(Outcome::Done)
}

pub(crate) fn man(talk: &mut Dialogue, args: &ManArgs, program: &clap::Command) -> Result<Outcome, CliError> {
    let mut program = program.clone();
    program.build();
    match &args.dir {
        None => talk.terminal.out(&page(&program, program.get_name())?),
        Some(dir) => {
            let failed = |cause| CliError::io(format!("could not write to {}", dir.display()), cause);
            fs::create_dir_all(dir).map_err(failed)?;
            let name = program.get_name().to_owned();
            write_pages(talk, dir, &name, &program)?;
        }
    }
    Ok(Outcome::Done)
}

fn write_pages(talk: &mut Dialogue, dir: &Path, name: &str, command: &clap::Command) -> Result<(), CliError> {
    let path = dir.join(format!("{name}.1"));
    let shown = path.display().to_string();
    let page = page(command, name)?;
    fs::write(&path, page).map_err(|cause| CliError::io(format!("could not write {shown}"), cause))?;
    talk.note(shown);
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set() && inner.get_name() != "help")
    {
        write_pages(talk, dir, &format!("{name}-{}", inner.get_name()), inner)?;
    }
    Ok(())
}

fn page(command: &clap::Command, name: &str) -> Result<String, CliError> {
    let mut text = Vec::new();
    Man::new(command.clone())
        .title(name)
        .render(&mut text)
        .map_err(|cause| CliError::io("could not write the manual page".to_owned(), cause))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
