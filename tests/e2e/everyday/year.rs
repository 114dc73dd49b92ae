//! Steps that are drawn at random, some of which are killed and taken again.

use super::Everyday;
use super::packages::{LEAVES, LIBRARIES, PLAIN, Packages, SLOTTED};
use crate::harness::Run;
use crate::harness::killing::{Kill, Scope, processes};
use crate::harness::wait::wait_for;
use crate::random::Random;

/// The steps that a test takes, unless `FPREFIX_YEAR_STEPS` says more.
const STEPS: usize = 7;

/// System calls at which steps are killed, and how many of them one process may make before.
const CALLS: [(&str, usize); 8] = [
    ("?rename,renameat,?renameat2", 30),
    ("?unlink,unlinkat", 30),
    ("?mkdir,mkdirat", 20),
    ("?symlink,symlinkat", 5),
    ("utimensat", 20),
    ("?fork,?vfork,clone,?clone3", 25),
    ("write", 100),
    ("openat", 2000),
];

/// The prefix of the year, and the packages in its repository.
struct Year {
    seed: u64,
    day: Everyday,
    random: Random,
    packages: Packages,
    /// The number of the toolchain that the machine has.
    toolchain: usize,
    /// How often things were changed that have a number.
    changes: usize,
}

impl Year {
    fn new(seed: u64) -> Self {
        let (day, mut random) = (Everyday::new(), Random::numbered(seed));
        let packages = Packages::new(&day, &mut random);
        let mut year = Self { seed, day, random, packages, toolchain: 0, changes: 0 };
        year.emerge(&[&LEAVES[..], &["winter", "slotted"]].concat());
        year
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.random.below(list.len())]
    }

    fn pick_atom(&mut self, list: &[&str]) -> String {
        let name = self.pick(list);
        self.packages.atom(name)
    }

    /// Takes a step.
    fn step(&mut self) {
        let all = [&PLAIN[..], &LEAVES, &SLOTTED[..1]].concat();
        match self.random.below(24) {
            0..=2 => {
                let atom = self.pick_atom(&all);
                self.emerge(&[&atom]);
            }
            3 | 4 => self.add_version(PLAIN.as_slice()),
            5 | 6 => self.add_version(&LIBRARIES.map(|(library, _, _)| library)),
            7 | 8 => self.add_version(&SLOTTED[..1]),
            9 | 10 => {
                let name = self.pick(&[&PLAIN[..], &["tracked", "loose", "slotted"]].concat());
                let versions = self.packages.versions(name).to_vec();
                let (atom, version) = (self.packages.atom(name), self.pick(&versions));
                self.emerge(&[&format!("={atom}-{version}")]);
            }
            11 | 12 => {
                let atom = self.pick_atom(&all);
                self.emerge(&["--deselect", &atom]);
                self.emerge(&["--depclean"]);
            }
            13 | 14 => self.change_flags(),
            15 => {
                let atom = self.pick_atom(&all);
                self.finishes(&["emerge", "--stage", &atom]);
                self.emerge(&["--install", &atom]);
            }
            16 => self.settle(),
            17 => {
                let slots = self.packages.slots();
                let (atom, slot) = (self.packages.atom("slotted"), self.pick(&slots));
                self.emerge(&[&format!("{atom}:{slot}")]);
            }
            18 => {
                let slots = self.packages.slots();
                let slot = self.pick(&slots);
                self.packages.move_slot(&self.day, slot);
                self.emerge(&["-uDN", "@world"]);
            }
            19 | 20 => self.rename(),
            21 => self.move_repository(),
            22 => self.update_fprefix(),
            _ => self.change_toolchain(),
        }
    }

    fn add_version(&mut self, names: &[&'static str]) {
        let name = self.pick(names);
        self.packages.add_version(&self.day, &mut self.random, name);
        self.emerge(&["-uDN", "@world"]);
    }

    fn change_flags(&mut self) {
        let file = self.day.prefix.staging.join("etc/portage/package.use/year");
        let (atom, flag) = (self.pick_atom(&PLAIN), self.pick(&["extra", "-extra"]));
        fs_err::write(file, format!("{atom} {flag}\n")).unwrap();
        self.emerge(&["-uDN", "@world"]);
    }

    fn rename(&mut self) {
        let libraries = LIBRARIES.map(|(library, _, _)| library);
        let name = self.pick(&[&PLAIN[..], &LEAVES, &SLOTTED[..1], &libraries].concat());
        self.packages.rename(&self.day, name);
        self.emerge(&["-uDN", "@world"]);
    }

    fn move_repository(&mut self) {
        self.changes += 1;
        self.day.move_repository(&format!("overlay-{}", self.changes));
        self.day.emerge(&["-p", "@world"]).ends_with(1).tells("repo add test-cases=PATH");
        let place = self.day.repository.to_str().unwrap().to_owned();
        self.finishes(&["repo", "add", &place]);
        self.emerge(&["-uDN", "@world"]);
    }

    fn update_fprefix(&mut self) {
        self.changes += 1;
        let (new_package, fewer_programs) = (self.random.below(2) == 0, self.random.below(3) == 0);
        self.day.update_fprefix(self.changes, new_package, fewer_programs);
        self.setup();
        self.emerge(&["-uDN", "@world"]);
    }

    fn change_toolchain(&mut self) {
        // It may be an older one, too.
        self.toolchain = (self.toolchain + 1 + self.random.below(3)) % 4;
        self.day.change_toolchain(self.toolchain);
        self.setup();
        self.day.has_toolchain(self.toolchain);
        self.day.setup().said().ends_with(1).tells("is there already");
        self.emerge(&["-uDN", "@world"]);
    }

    fn setup(&mut self) {
        let kill = self.draw_kill();
        self.killed(kill.as_ref(), &["setup"], self.day.setup());
        // It may have come to its end.
        let said = self.day.setup().said();
        let is_done = said.code() == 1 && said.stderr.contains("is there already");
        assert!(said.code() == 0 || kill.is_some() && is_done, "{kill:?}: {said}");
        self.day.follows("setup");
    }

    /// Lets nothing be there that is kept only until what uses it is built anew.
    fn settle(&mut self) {
        self.emerge(&["@preserved-rebuild"]);
        self.emerge(&["--depclean"]);
    }

    fn emerge(&mut self, args: &[&str]) {
        self.finishes(&[&["emerge"], args].concat());
        self.day.follows(&args.join(" "));
    }

    /// Runs a command, which may be killed; the same command again has to succeed.
    fn finishes(&mut self, args: &[&str]) {
        let kill = self.draw_kill();
        self.killed(kill.as_ref(), args, self.day.fprefix(args));
        let said = self.day.fprefix(args).said();
        assert_eq!(said.code(), 0, "{} after {kill:?}: {said}", args.join(" "));
    }

    /// Every fourth command is killed.
    fn draw_kill(&mut self) -> Option<Kill> {
        if self.random.below(4) > 0 {
            return None;
        }
        let ((call, most), scope) = (self.pick(&CALLS), self.pick(&[Scope::Process, Scope::Group]));
        Some(Kill::at(call, 1 + self.random.below(most), scope))
    }

    #[expect(clippy::print_stderr, reason = "whoever begins a long year looks where it is")]
    fn tell(&self, what: &str) {
        eprintln!("seed {}: {what}", self.seed);
    }

    fn killed(&self, kill: Option<&Kill>, args: &[&str], run: Run<'_>) {
        self.tell(&args.join(" "));
        let Some(kill) = kill else { return };
        let said = kill.end(true, run);
        self.tell(&format!("{kill:?}: ended with {}", said.code()));
        let dir = self.day.prefix.world.path("");
        wait_for("the end of all that the run started", || processes(&dir).is_empty());
    }
}

fn live(seed: u64, steps: usize) {
    let mut year = Year::new(seed);
    for step in 1..=steps {
        year.tell(&format!("step {step}"));
        year.step();
        if step % 10 == 0 || step == steps {
            year.settle();
            year.day.packs_to_one_image();
            year.day.is_as_new(&format!("{step} steps"));
        }
    }
    year.tell("all steps were taken");
}

/// `FPREFIX_YEAR_SEED` has other seeds, with commas between, which are lived at the same time;
/// `FPREFIX_YEAR_STEPS` is the number of steps of each.
#[test]
fn a_year_in_a_prefix() {
    let read = |name: &str| std::env::var(name).ok();
    let steps = read("FPREFIX_YEAR_STEPS").map_or(STEPS, |steps| steps.parse().unwrap());
    let seeds = read("FPREFIX_YEAR_SEED").unwrap_or_else(|| "13769".to_owned());
    std::thread::scope(|scope| {
        for seed in seeds.split(',').map(|seed| seed.parse().unwrap()) {
            scope.spawn(move || live(seed, steps));
        }
    });
}
