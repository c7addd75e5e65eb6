//! What the kernel command line asks the guest to do.

/// One thing to run, as named in `lockstep.run=NAME,NAME…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// The counter service on port 7000.
    Counterd,
    /// The echo service on port 7007.
    Echod,
    /// The journal on port 7003, if there is a disk.
    Journald,
    /// A shell on the console; the guest ends with it.
    Shell,
    /// The workload of the twins test; the guest ends after it.
    SelfTest,
    /// A workload in shell, for a machine without a twin; the guest ends with it.
    ShellTest,
    /// Programs to measure a processor with; the guest ends after them.
    Workloads,
    /// Requests to the disk, counted and timed; the guest ends after them.
    DiskBench,
    /// A file system on the disk, made, filled and compared; the guest ends after it.
    FsExercise,
    /// End at once, for measuring the boot.
    PowerOff,
}

/// Without `lockstep.run=`.
const DEFAULT: [Task; 3] = [Task::Counterd, Task::Echod, Task::Journald];

/// The tasks that `command_line` names, in its order, and the names that mean nothing.
pub fn tasks(command_line: &str) -> (Vec<Task>, Vec<&str>) {
    let Some(names) = value(command_line, "lockstep.run=") else {
        return (DEFAULT.to_vec(), Vec::new());
    };
    let mut tasks = Vec::new();
    let mut unknown = Vec::new();
    for name in names.split(',').filter(|name| !name.is_empty()) {
        match task(name) {
            Some(task) if tasks.contains(&task) => {}
            Some(task) => tasks.push(task),
            None => unknown.push(name),
        }
    }
    (tasks, unknown)
}

/// What follows `option` on the command line, the last time that it is there.
pub fn value<'a>(command_line: &'a str, option: &str) -> Option<&'a str> {
    command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(option))
        .next_back()
}

fn task(name: &str) -> Option<Task> {
    Some(match name {
        "counterd" => Task::Counterd,
        "echod" => Task::Echod,
        "journald" => Task::Journald,
        "diskbench" => Task::DiskBench,
        "fsexercise" => Task::FsExercise,
        "sh" => Task::Shell,
        "selftest" => Task::SelfTest,
        "shelltest" => Task::ShellTest,
        "workloads" => Task::Workloads,
        "poweroff" => Task::PowerOff,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_run_by_default() {
        assert_eq!(tasks("console=ttyS0 quiet\n"), (DEFAULT.to_vec(), vec![]));
    }

    #[test]
    fn names_are_taken_in_order_and_once() {
        let (tasks, unknown) = tasks("quiet lockstep.run=sh,counterd,,sh ip=10.0.0.2");
        assert_eq!(tasks, [Task::Shell, Task::Counterd]);
        assert!(unknown.is_empty());
    }

    #[test]
    fn unknown_names_are_reported_and_the_others_kept() {
        assert_eq!(
            tasks("lockstep.run=echod,nonesuch"),
            (vec![Task::Echod], vec!["nonesuch"])
        );
    }

    #[test]
    fn the_last_of_two_options_counts() {
        assert_eq!(
            tasks("lockstep.run=sh lockstep.run=poweroff").0,
            [Task::PowerOff]
        );
    }
}
