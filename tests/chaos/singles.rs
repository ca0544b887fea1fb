//! What happens by itself after a round's faults are over, so that it can be measured and nothing else explains it.

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Single {
    LeaderKilled,
    LeaderTerminated,
    CertificateGone,
    IndexDeleted,
    WatchesStalled,
    WithdrawalBroughtBack,
    PausedByIndex,
    WithdrawalConfirmed,
    PausedByClass,
}

/// Rounds after which each has happened; a shorter run has more of them in a round.
pub const ROUNDS: u64 = 4;

impl Single {
    pub const ALL: [Self; 9] = [
        Self::LeaderKilled,
        Self::LeaderTerminated,
        Self::CertificateGone,
        Self::IndexDeleted,
        Self::WatchesStalled,
        Self::WithdrawalBroughtBack,
        Self::PausedByIndex,
        Self::WithdrawalConfirmed,
        Self::PausedByClass,
    ];

    /// Those of one round of so many.
    pub fn of_round(round: u64, rounds: u64) -> impl Iterator<Item = Self> {
        let turns = rounds.clamp(1, ROUNDS);
        (0..).zip(Self::ALL).filter(move |(at, _)| at % turns == round % turns).map(|(_, single)| single)
    }
}

#[test]
fn every_run_has_all_of_them_wherever_it_begins() {
    for rounds in 1..10 {
        for first in [0, 7] {
            let mut seen: Vec<_> =
                (first..first + rounds).flat_map(|round| Single::of_round(round, rounds)).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), Single::ALL.len(), "{rounds} rounds from {first}");
        }
    }
}
