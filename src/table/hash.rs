//! The hash of a whole routing. It says whether two routings are alike, whatever shards they were cut into, and a
//! reader can compute it from what it has read (docs/published.md).
//!
//! ```text
//! routers, services ─▶ by the first byte of the sha256 of their key: 256 cells
//!                      sum of a cell = sha256(its router lines, an empty line, its service lines)
//! certificates      ─▶ sum of each = sha256(its line without the key); all of them sorted
//!
//! hash = sha256(256 sums of cells, then the sums of the certificates)
//! ```
//!
//! Each sum is kept until an entry of its cell changes, so a commit costs as much as the change is large.

use sha2::Digest as _;

use super::digest::{Digest, place};
use crate::traefik::document::{Keys, certificate_line};
use crate::traefik::dynamic::Certificate;
use crate::traefik::escape::Sink;

/// The number of cells of a routing.
pub(super) const CELLS: usize = 256;

/// The cell of a router or service.
pub fn cell(key: &str) -> usize {
    (place(key) >> 56) as usize
}

/// The sum of a cell: its lines as in documents, sorted by key, without commas.
pub fn cell_sum<'a>(
    routers: impl Iterator<Item = &'a str>,
    services: impl Iterator<Item = &'a str>,
) -> Digest {
    Digest::written(|sink| {
        for line in routers.chain([""]).chain(services) {
            sink.push(line);
            sink.push("\n");
        }
    })
}

/// The sum of a certificate, without its key.
pub fn certificate_sum(certificate: &Certificate) -> Digest {
    Digest::new(&certificate_line(certificate, Keys::LeftOut))
}

/// The hash of a routing, from the sums of its cells, in order, and of its certificates.
pub fn whole(cells: impl IntoIterator<Item = Digest>, mut certificates: Vec<Digest>) -> Digest {
    certificates.sort_unstable();
    Digest::written(|sink| cells.into_iter().chain(certificates).for_each(|sum| sink.update(sum.as_bytes())))
}

/// The hash of an output, with the sums that are still valid.
#[derive(Default)]
pub(super) struct RoutingHash {
    cells: Vec<Option<Digest>>,
    whole: Option<Digest>,
}

impl RoutingHash {
    /// An entry of a cell was set or removed.
    pub fn changed(&mut self, cell: usize) {
        self.whole = None;
        if let Some(sum) = self.cells.get_mut(cell) {
            *sum = None;
        }
    }

    /// The text of the certificates has to be built again.
    pub fn certificates_changed(&mut self) {
        self.whole = None;
    }

    /// The hash. `sum` returns the sum of a cell, `certificates` those of all certificates.
    pub fn take(
        &mut self,
        sum: impl Fn(usize) -> Digest,
        certificates: impl FnOnce() -> Vec<Digest>,
    ) -> Digest {
        if let Some(whole) = self.whole {
            return whole;
        }
        self.cells.resize(CELLS, None);
        let cells: Vec<Digest> = self
            .cells
            .iter_mut()
            .enumerate()
            .map(|(cell, known)| *known.get_or_insert_with(|| sum(cell)))
            .collect();
        *self.whole.insert(whole(cells, certificates()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by hand: `printf '\n' | sha256sum` is the sum of an empty cell.
    #[test]
    fn an_empty_routing() {
        let empty = cell_sum(std::iter::empty(), std::iter::empty());
        assert_eq!(empty.to_string(), "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b");
        assert_eq!(
            whole(std::iter::repeat_n(empty, CELLS), Vec::new()),
            RoutingHash::default().take(|_| empty, Vec::new)
        );
    }

    #[test]
    fn a_line_is_in_its_section_and_certificates_have_no_order() {
        let sum = |routers: &[&'static str], services: &[&'static str]| {
            cell_sum(routers.iter().copied(), services.iter().copied())
        };
        assert_ne!(sum(&["a"], &[]), sum(&[], &["a"]));
        assert_ne!(sum(&["a", "b"], &[]), sum(&["a"], &["b"]));
        let certificate = |text: &str, key: &str| {
            certificate_sum(&Certificate { cert_file: text.into(), key_file: key.into() })
        };
        assert_eq!(certificate("a", "k"), certificate("a", "other"));
        let (a, b) = (certificate("a", ""), certificate("b", ""));
        assert_eq!(whole([], vec![a, b]), whole([], vec![b, a]));
        assert_ne!(whole([], vec![a, b]), whole([], vec![a, a, b]));
        assert_eq!(cell("abc"), 0xba);
    }
}
