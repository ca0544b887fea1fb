//! README.md and the other pages for users, run from top to bottom as somebody would who follows them: with kubectl, Helm and
//! waybill on the PATH, a kubeconfig in the home directory, and the repository as the working directory.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::blocks::{Block, Role, blocks};
use crate::harness::operator::{SOON, binary};
use crate::harness::{ADMIN, ControlPlane, Process, eventually, tool};
use crate::world::World;
use crate::{client, stand_in};

/// In this order, in one cluster; each page finds what those before it have left.
const PAGES: &[&str] = &[
    "README.md",
    "docs/install.md",
    "docs/first-ingress.md",
    "manifests/examples/traefik/README.md",
    "docs/tools.md",
    "docs/commands.md",
    "docs/migration.md",
    "docs/classes.md",
    "docs/operations.md",
    "docs/gitops.md",
    "docs/upgrade.md",
    "manifests/helm/waybill/README.md",
];

/// What a page takes for granted.
const GRANTED: &[(&str, &str)] = &[
    ("manifests/examples/traefik/README.md", "cp cert.pem ca.pem"),
    (
        "docs/tools.md",
        "mkdir -p ~/.local/bin deploy && cp examples/shop/*.yaml deploy
        kubectl config set-context prod --cluster=test --user=test
        git init --quiet && git add deploy
        git -c user.name=test -c user.email=test commit --quiet --message=deployed
        git update-ref refs/remotes/origin/main HEAD
        sed -i 's/sale[.]shop/deals.shop/; s/secure-headers@file, *compress@file/compress@file/' deploy/web.yaml",
    ),
    ("docs/migration.md", "echo 'providers: {kubernetesIngress: {}}' >traefik.yaml"),
    (
        "docs/operations.md",
        "mkdir admission
        echo '{resources: [../edge], components: [../manifests/components/admission]}' >admission/kustomization.yaml
        kubectl apply -k admission
        kubectl -n default create ingress web --class=traefik --rule='shop.example/*=web:80' --dry-run=client -o yaml \
            --annotation=traefik.ingress.kubernetes.io/router.priority=high >web.yaml
        while kubectl apply --dry-run=server -f web.yaml >admission/log 2>&1; do sleep 0.2; done",
    ),
];

/// `cargo run` starts the program that is built already.
const CARGO: &str = "#!/bin/sh\n[ \"$1 $2 $3\" = 'run --release --' ] && shift 3 && exec waybill \"$@\"\n";

/// A command that only reads is repeated for so long, until it prints what its page shows.
const SHOWN_WITHIN: Duration = Duration::from_secs(35);
const READS: &str = r"^(waybill|kubectl (-n \S+ )?(get|describe|explain)) [^>]*$";

/// A place to type commands in.
struct Shell {
    path: String,
    home: PathBuf,
    folder: PathBuf,
}

pub async fn every_command_does_what_its_page_shows() {
    let world = World { plane: ControlPlane::start().await, operators: Vec::new() };
    let shell = Arc::new(Shell::new(&world.plane).unwrap());
    let following = async {
        let mut wrong = Vec::new();
        let mut provider = None;
        for page in PAGES {
            if *page == "docs/migration.md" {
                provider = Some(start_traefik_with_its_own_provider(&world.plane).await);
            }
            let begun = Instant::now();
            let shell = shell.clone();
            let found = tokio::task::spawn_blocking(move || shell.follow(page)).await.unwrap();
            println!("  {page} ({:.1} s)", begun.elapsed().as_secs_f64());
            wrong.extend(found.unwrap());
        }
        drop(provider);
        wrong
    };
    let wrong = tokio::select! {
        wrong = following => wrong,
        () = stand_in::play(&world) => unreachable!("it goes on for ever"),
    };
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What the page on migration compares with; its API is on port 8080.
async fn start_traefik_with_its_own_provider(plane: &ControlPlane) -> Process {
    let token = plane.folder().join("provider.token");
    std::fs::write(&token, ADMIN).unwrap();
    let mut command = Command::new(tool("traefik"));
    command
        .args(["--entrypoints.web.address=127.0.0.1:8000", "--entrypoints.websecure.address=127.0.0.1:8443"])
        .args(["--entrypoints.websecure.http.tls=true", "--entrypoints.traefik.address=127.0.0.1:8080"])
        .args(["--api.insecure=true", "--api.dashboard=false"])
        .args(["--global.checknewversion=false", "--global.sendanonymoususage=false"])
        .env_clear()
        .env("HOME", plane.folder());
    plane.reached_by(&mut command, &token);
    let process = plane.spawn("provider", &mut command);
    eventually("Traefik's own provider has routes", SOON, async || {
        let answer = client::get(8080, "localhost", "/api/rawdata", &[]).await?;
        if answer.body.contains("@kubernetes\"") { Ok(()) } else { Err(answer.body) }
    })
    .await;
    process
}

impl Shell {
    fn new(plane: &ControlPlane) -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let [bin, home, folder] = ["bin", "home", "waybill"].map(|name| plane.folder().join(name));
        for made in [&bin, &home.join(".kube"), &folder] {
            std::fs::create_dir_all(made)?;
        }
        std::fs::copy(plane.admin_kubeconfig(), home.join(".kube/config"))?;
        for (name, program) in [
            ("waybill", PathBuf::from(binary())),
            ("kubectl-waybill", PathBuf::from(binary())),
            ("kubectl", tool("kubectl")),
            ("helm", tool("helm")),
        ] {
            symlink(program, bin.join(name))?;
        }
        std::fs::write(bin.join("cargo"), CARGO)?;
        std::fs::set_permissions(bin.join("cargo"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        for name in ["manifests", "crds", "examples", "docs"] {
            symlink(root.join(name), folder.join(name))?;
        }
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", bin.display());
        Ok(Self { path, home, folder })
    }

    /// Runs a page; what is wrong with it.
    fn follow(&self, page: &str) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page))?;
        let mut wrong = Vec::new();
        if let Some((_, script)) = GRANTED.iter().find(|(of, _)| *of == page) {
            let output = self.run(script)?;
            if !output.status.success() {
                wrong.push(format!("{page}: what it takes for granted: {}", said(&output)));
            }
        }
        let mut last = None;
        for block in blocks(&text) {
            let at = format!("{page}:{}", block.line);
            match block.role().context(at.clone())? {
                Role::Run { code } => {
                    let commands = commands(&block);
                    let count = commands.len();
                    for (number, (command, shown)) in commands.into_iter().enumerate() {
                        let code = if number + 1 == count { code } else { 0 };
                        let shown = (block.language == "console").then_some(shown.as_str());
                        match self.ends_and_prints(&command, code, shown) {
                            Ok(printed) => last = Some(printed),
                            Err(error) => wrong.push(format!("{at}: {command}{error}")),
                        }
                    }
                }
                Role::File(path) => {
                    let path = self.folder.join(path);
                    std::fs::create_dir_all(path.parent().context("no folder")?)?;
                    std::fs::write(path, &block.text)?;
                }
                Role::Output => {
                    let printed =
                        last.as_deref().with_context(|| format!("{at}: nothing was run before it"))?;
                    if !is_shown(&block.text, printed)? {
                        wrong.push(format!("{at} shows\n{}\nand this was printed:\n{printed}", block.text));
                    }
                }
                Role::RunIn(_) | Role::NotRun(_) | Role::Shown => {}
            }
        }
        Ok(wrong)
    }

    /// Runs a command; what it printed, or how that differs from what it should have done.
    fn ends_and_prints(&self, command: &str, code: i32, shown: Option<&str>) -> Result<String> {
        let begun = Instant::now();
        let only_reads = Regex::new(READS)?.is_match(command);
        loop {
            let output = self.run(command)?;
            let printed = said(&output);
            let ended = output.status.code() == Some(code);
            let is_right = match shown {
                _ if !ended => false,
                Some(shown) => is_shown(shown, &printed)?,
                None => true,
            };
            if is_right {
                return Ok(printed);
            }
            if !only_reads || begun.elapsed() > SHOWN_WITHIN {
                match shown {
                    Some(shown) if ended => bail!("is shown to print\n{shown}\nand printed\n{printed}"),
                    _ => bail!("ended with {} and not {code}:\n{printed}", output.status),
                }
            }
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    fn run(&self, command: &str) -> Result<Output> {
        let mut shell = Command::new("timeout");
        shell
            .args([
                "90",
                "bash",
                "-euo",
                "pipefail",
                "-c",
                "exec 2>&1\n\"$0\" -euo pipefail -c \"$1\"",
                "bash",
                command,
            ])
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", &self.home)
            .stdin(Stdio::null());
        Ok(shell.output()?)
    }
}

/// Commands, each with what it is shown to print: in `sh` one, with nothing.
fn commands(block: &Block<'_>) -> Vec<(String, String)> {
    if block.language == "sh" {
        return vec![(block.text.clone(), String::new())];
    }
    let mut commands: Vec<(String, String)> = Vec::new();
    let mut is_open = false;
    for line in block.text.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            commands.push((String::new(), String::new()));
            is_open = true;
            push(&mut commands, true, command);
        } else {
            push(&mut commands, is_open, line);
        }
        is_open &= line.ends_with(['\\', '|']);
    }
    commands
}

fn push(commands: &mut [(String, String)], is_command: bool, line: &str) {
    if let Some((command, printed)) = commands.last_mut() {
        let text = if is_command { command } else { printed };
        text.push_str(line);
        text.push('\n');
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a text was printed but for what differs each time: ages, the width of columns, and what is left out as `…`, a
/// line of which stands for any number of lines.
fn is_shown(shown: &str, printed: &str) -> Result<bool> {
    let age = Regex::new(r"\b(\d+[dhms]){1,2}\b")?;
    let same = |text: &str| {
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        lines.map(|line| age.replace_all(&line, "AGE").into_owned()).collect::<Vec<_>>()
    };
    let trimmed = |mut lines: Vec<String>| {
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines
    };
    let pattern: String = trimmed(same(shown))
        .iter()
        .map(|line| match line.as_str() {
            "…" => "(?:.*\n)*?".to_owned(),
            line => regex::escape(line).replace('…', ".*") + "\n",
        })
        .collect();
    let printed: String = trimmed(same(printed)).iter().map(|line| format!("{line}\n")).collect();
    Ok(Regex::new(&format!("^{pattern}$"))?.is_match(&printed))
}
