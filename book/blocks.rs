//! The code blocks of a page, and what the comment on the line before each says of it.

use anyhow::{Context, Result, bail, ensure};

/// A block between two fences, without the indentation of its fence.
#[derive(Debug)]
pub struct Block<'a> {
    /// That of the opening fence, counted from 1.
    pub line: usize,
    pub language: &'a str,
    /// The text of the HTML comment on the line before.
    pub mark: Option<&'a str>,
    pub text: String,
}

/// What a block is to the test that runs the pages.
#[derive(Debug, PartialEq, Eq)]
pub enum Role<'a> {
    /// Commands that are run. The last one ends with `code`, the others with 0.
    Run { code: i32 },
    /// Commands that are run where another page has them.
    RunIn(&'a str),
    /// Commands that are not run, and why.
    NotRun(&'a str),
    /// A file that the commands after it need.
    File(&'a str),
    /// What the last block of commands printed.
    Output,
    /// Anything else.
    Shown,
}

const MARKS: &str = "write on the line before it `<!-- run -->`, `<!-- run, exits with N -->`, `<!-- run in PAGE -->`, or \
                     `<!-- not run: WHY -->`";

impl Block<'_> {
    /// Whether it holds commands: in `console` they follow `$ ` and what they print follows them.
    pub fn is_commands(&self) -> bool {
        matches!(self.language, "sh" | "console")
    }

    pub fn role(&self) -> Result<Role<'_>> {
        match self.language {
            "" => bail!(
                "name its language after the fence: `sh` for commands, `console` for commands after `$ ` with what \
                         they print, `text` for anything else"
            ),
            "bash" | "shell" | "zsh" | "shell-session" => {
                bail!("call it `sh`, or `console` where commands follow `$ `")
            }
            _ => {}
        }
        let Some(mark) = self.mark else {
            ensure!(!self.is_commands(), "{MARKS}");
            return Ok(Role::Shown);
        };
        let role = if let Some(why) = mark.strip_prefix("not run:") {
            ensure!(why.trim().len() > 10, "say why it is not run");
            Role::NotRun(why.trim())
        } else if mark == "run" {
            Role::Run { code: 0 }
        } else if let Some(code) = mark.strip_prefix("run, exits with ") {
            Role::Run { code: code.parse().with_context(|| format!("{code:?} is no exit code"))? }
        } else if let Some(page) = mark.strip_prefix("run in ") {
            Role::RunIn(page)
        } else if let Some(path) = mark.strip_prefix("file: ") {
            Role::File(path)
        } else if mark == "output" {
            Role::Output
        } else {
            ensure!(!self.is_commands(), "{mark:?} says nothing about it; {MARKS}");
            return Ok(Role::Shown);
        };
        let of_commands = matches!(role, Role::Run { .. } | Role::RunIn(_) | Role::NotRun(_));
        ensure!(
            of_commands == self.is_commands(),
            "`<!-- {mark} -->` does not fit a block of {}; {MARKS}",
            self.language
        );
        Ok(role)
    }
}

/// All blocks of a page.
pub fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    let mut open: Option<usize> = None;
    let mut before = "";
    for (at, line) in page.lines().enumerate() {
        let bare = line.trim_start();
        let indentation = line.len() - bare.len();
        match (open, bare.strip_prefix("```")) {
            (Some(_), Some("")) => open = None,
            (Some(indentation), _) => {
                let spaces = line.bytes().take(indentation).take_while(|byte| *byte == b' ').count();
                if let Some(block) = blocks.last_mut() {
                    block.text.push_str(&line[spaces..]);
                    block.text.push('\n');
                }
            }
            (None, Some(language)) => {
                let mark = before.trim().strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
                blocks.push(Block { line: at + 1, language, mark, text: String::new() });
                open = Some(indentation);
            }
            (None, None) => {}
        }
        before = line;
    }
    blocks
}
