//! Which meshes are trained on: told by their names alone, so that a set that grows moves none from one part to another.

use sha2::{Digest, Sha256};

/// The part that a mesh belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    Train,
    Validation,
    Test,
}

/// Of the meshes of a set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    pub validation: f64,
    pub test: f64,
}

/// The first 8 bytes of the SHA-256 of `name`, big-endian, over 2^64 are a number u in [0, 1): below `test` the mesh is for
/// the test, below `test + validation` for validation, else it is trained on.
pub fn split_of(name: &str, shares: Shares) -> Split {
    let hash = Sha256::digest(name);
    let word = hash[..8].iter().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
    let u = (word >> 11) as f64 / (1u64 << 53) as f64;
    if u < shares.test {
        Split::Test
    } else if u < shares.test + shares.validation {
        Split::Validation
    } else {
        Split::Train
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_hold_and_nested_shares_agree() {
        let names: Vec<String> = (0..4000).map(|i| format!("head_{i:03}")).collect();
        let parts = |validation, test| -> Vec<Split> {
            names.iter().map(|name| split_of(name, Shares { validation, test })).collect()
        };
        let (some, more) = (parts(0.1, 0.1), parts(0.2, 0.1));
        for (part, share) in [(Split::Test, 0.1), (Split::Validation, 0.1), (Split::Train, 0.8)] {
            let found = some.iter().filter(|&&found| found == part).count() as f64;
            // Five standard deviations of a binomial count.
            let deviation = (4000.0f64 * share * (1.0 - share)).sqrt();
            assert!((found - 4000.0 * share).abs() < 5.0 * deviation, "{part:?}: {found}");
        }
        // A larger share of validation takes from training alone.
        for (a, b) in some.iter().zip(&more) {
            assert!(a == b || (*a == Split::Train && *b == Split::Validation));
        }
        assert!(parts(0.0, 0.0).iter().all(|&part| part == Split::Train));
        assert!(parts(0.0, 1.0).iter().all(|&part| part == Split::Test));
    }

    #[test]
    fn the_rule_is_the_documented_one() {
        // SHA-256 of "abc" begins with ba7816bf 8f01cfea: u = 0.7284...
        let of = |test| split_of("abc", Shares { validation: 0.0, test });
        assert_eq!((of(0.728), of(0.729)), (Split::Train, Split::Test));
    }
}
