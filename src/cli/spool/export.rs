//! `postrider spool export`

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::open;
use crate::cli::output::{plural, remark};
use crate::cli::progress::Progress;
use crate::cli::{Failure, output};
use crate::model::MessageId;
use crate::queue::inspect::{Access, Choice, Rescue, RescuedView, Spool};

/// Write each waiting message to a directory: its content as ID.eml (a text as ID.txt), all else as ID.json
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  postrider spool export --to /root/rescued /var/lib/postrider\n  postrider spool export --to \
                  /root/rescued --client shop /var/lib/postrider\n\nContents and addresses are written whole, those of class \
                  otp as well: the directory and its files are readable by their owner only. The spool is not changed, so a \
                  relay that is started on it sends the same messages.\nExit code 1 if a message could not be read or \
                  damaged places were met."
)]
pub(super) struct Args {
    /// A data directory, the spool directory in it, or a copy of either
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Where to; must be empty or not there yet, and not within DIR
    #[arg(long, value_name = "OUTDIR")]
    to: PathBuf,
    #[command(flatten)]
    which: Chosen,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
#[group(multiple = false)]
struct Chosen {
    /// This message only
    #[arg(long, value_name = "ID")]
    id: Option<MessageId>,
    /// This client's messages only
    #[arg(long, value_name = "NAME")]
    client: Option<String>,
    /// All messages; so it is if nothing else is said
    #[arg(long)]
    all: bool,
}

#[derive(serde::Serialize, Default)]
struct Report {
    to: String,
    exported: u64,
    bytes: u64,
    skipped: Vec<Skipped>,
    damaged_places: u64,
}

#[derive(serde::Serialize)]
struct Skipped {
    id: String,
    why: String,
}

impl Args {
    pub(super) fn run(self) -> Result<(), Failure> {
        let spool = open(&self.dir, Access::Alone, "; stop it first")?;
        let to = Target::make(&self.to, &self.dir, &spool)?;
        let choice = match (self.which.id, self.which.client) {
            (Some(id), _) => Choice::Id(id),
            (None, Some(client)) => Choice::Client(client.into()),
            (None, None) => Choice::All,
        };
        let quiet = self.quiet;
        let mut progress = if quiet { Progress::silent() } else { Progress::of_bytes("reading", spool.bytes()) };
        let plan = spool.plan(&choice, &mut |read| progress.add(read)).map_err(Failure::failed)?;
        drop(progress);
        let mut report =
            Report { to: self.to.display().to_string(), damaged_places: plan.damaged_places, ..Report::default() };
        let mut progress = if quiet { Progress::silent() } else { Progress::of_things("writing", plan.messages()) };
        for message in spool.rescue(&plan) {
            match message {
                Rescue::Whole { view, content } => {
                    to.write(&view, &content)?;
                    report.exported += 1;
                    report.bytes += content.len() as u64;
                }
                Rescue::Lost { id, why } => report.skipped.push(Skipped { id, why }),
            }
            progress.add(1);
        }
        drop(progress);
        to.sync()?;
        report.end(&choice, self.json)
    }
}

impl Report {
    fn end(&self, choice: &Choice, json: bool) -> Result<(), Failure> {
        if json {
            output::print_json(self)?;
        } else {
            for skipped in &self.skipped {
                remark(&format!("{} was not exported: {}", skipped.id, skipped.why));
            }
            if self.damaged_places > 0 {
                let places = plural(self.damaged_places, "damaged place");
                remark(&format!("{places} in the spool: postrider spool verify tells about them"));
            }
            let (messages, bytes) = (plural(self.exported, "message"), output::size(self.bytes));
            output::print(&format!("{messages} with {bytes} written to {}", output::printable(&self.to)))?;
        }
        if let (Choice::Id(id), 0, true) = (choice, self.exported, self.skipped.is_empty()) {
            return Err(Failure::Failed(format!("{id} does not wait in this spool: it has ended or was never there")));
        }
        if self.skipped.is_empty() && self.damaged_places == 0 { Ok(()) } else { Err(Failure::Told) }
    }
}

/// The directory that is written to.
struct Target {
    dir: PathBuf,
}

impl Target {
    /// Makes it, or takes it if it is empty; readable by its owner only.
    fn make(dir: &Path, given: &Path, spool: &Spool) -> Result<Self, Failure> {
        let refuse = |why: &str| Failure::Failed(format!("{}: {why}", dir.display()));
        let failed = |e: io::Error| Failure::Failed(format!("{}: {e}", dir.display()));
        // Before it is made: nothing may be made in the spool either.
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = if dir.exists() { dir } else { parent };
        let parent = parent.canonicalize().map_err(failed)?;
        for root in [given, spool.root()] {
            if parent.starts_with(root.canonicalize().map_err(failed)?) {
                return Err(refuse("lies within the spool's directory, which is not written to"));
            }
        }
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                if fs::read_dir(dir).map_err(failed)?.next().is_some() {
                    return Err(refuse("is not empty"));
                }
                fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(failed)?;
            }
            Err(e) => return Err(failed(e)),
        }
        Ok(Self { dir: dir.to_owned() })
    }

    fn write(&self, view: &RescuedView, content: &[u8]) -> Result<(), Failure> {
        let mut fields = serde_json::to_vec_pretty(view).map_err(Failure::failed)?;
        fields.push(b'\n');
        self.file(&view.content, content)?;
        self.file(&format!("{}.json", view.id), &fields)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.dir.join(name);
        let written = fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
        let written = written.and_then(|mut file| file.write_all(bytes));
        written.map_err(|e| Failure::Failed(format!("{}: {e}", path.display())))
    }

    /// What was rescued is meant to stay: one sync for all of it.
    fn sync(&self) -> Result<(), Failure> {
        let synced = fs::File::open(&self.dir).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
        synced.map_err(|e| Failure::Failed(format!("{}: {e}", self.dir.display())))
    }
}
