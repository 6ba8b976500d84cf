//! `lb completions`: this command's words, for shells.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::{Arguments, Exit, output};

/// Print a script that completes this command's words in a shell
///
/// For bash: `lb completions bash > /usr/share/bash-completion/completions/lb`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// When stdout fails.
pub fn run(args: &Args) -> Result<Exit, anyhow::Error> {
    output::print_text(&script(args.shell))?;
    Ok(Exit::Done)
}

fn script(shell: Shell) -> String {
    let mut text = Vec::new();
    generate(shell, &mut Arguments::command(), "lb", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_learns_every_command() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for command in Arguments::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }

    #[test]
    fn bash_takes_the_script() {
        let output = std::process::Command::new("bash")
            .args(["-c", "eval \"$1\" && complete -p lb", "bash", &script(Shell::Bash)])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
