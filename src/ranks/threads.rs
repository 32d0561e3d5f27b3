//! How many threads a rank has: the ranks of a machine share the cores that they may use.

use rayon::ThreadPoolBuilder;

/// The cores that the system lets this process use, by number; on another system than Linux those that it counts.
pub fn cores() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.and_then(listed).unwrap_or_else(|| (0..available()).collect())
}

fn available() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A list as the kernel prints it, for example `0-3,8`.
fn listed(text: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cores)
}

/// Threads of one of `ranks` ranks that together may use `cores` cores, itself `available` of them.
fn share(available: usize, cores: usize, ranks: usize) -> usize {
    available.min(cores / ranks.max(1)).max(1)
}

/// Sizes the pool of this process, unless it was said how many threads it has.
pub fn limit(cores: usize, ranks: usize) {
    if std::env::var_os("RAYON_NUM_THREADS").is_none() {
        let threads = share(available(), cores, ranks);
        // It fails where there is a pool already, which nothing makes before this.
        let _ = ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_kernel() {
        assert_eq!(listed("\t0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(listed("5"), Some(vec![5]));
        assert_eq!(listed("none"), None);
        assert!(!cores().is_empty());
    }

    #[test]
    fn ranks_take_no_more_cores_than_there_are() {
        // Each bound to a core; not bound; bound to one of two sockets; more ranks than cores.
        let cases = [((1, 2, 2), 1), ((64, 64, 4), 16), ((32, 64, 4), 16), ((2, 2, 4), 1)];
        for ((available, cores, ranks), threads) in cases {
            assert_eq!(share(available, cores, ranks), threads, "{available} {cores} {ranks}");
        }
    }
}
