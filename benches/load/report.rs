//! Figures as they are printed: least, median, greatest, and their ratio to a goal or a peer.

/// A figure, taken several times.
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The value that this part of all values reaches at most.
    pub fn quantile(&self, part: f64) -> f64 {
        let at = (self.0.len() as f64 * part) as usize;
        self.0.get(at.min(self.0.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// What a figure is held against.
pub enum Goal {
    /// A goal that it should not be above.
    AtMost(f64),
    /// A goal that it should reach.
    AtLeast(f64),
    /// Another figure, with no judgement.
    Beside(&'static str, f64),
}

/// Prints figures as they come, and keeps what goals they miss.
#[derive(Default)]
pub struct Report {
    pub missed: Vec<String>,
}

impl Report {
    pub fn line(&mut self, what: &str, unit: &str, sample: &Sample, goals: &[Goal]) {
        let [Some(least), Some(greatest)] = [sample.0.first(), sample.0.last()] else {
            println!("{what:<30} not measured");
            self.missed.push(format!("{what}: not measured"));
            return;
        };
        let median = sample.median();
        let mut text = format!("{what:<30} {median:>9.2} {unit:<2} ({least:.2} to {greatest:.2})");
        for goal in goals {
            text += &match goal {
                Goal::AtMost(goal) if goal.is_infinite() => continue,
                Goal::AtMost(goal) if *goal == 0.0 => "; none is the goal".to_owned(),
                Goal::AtMost(goal) => format!("; {:.2} of the goal, at most {goal:.1}", median / goal),
                Goal::AtLeast(goal) => format!("; {:.2} of the goal, at least {goal:.1}", median / goal),
                Goal::Beside(whose, other) => format!("; {:.4} × {whose}", median / other),
            };
            let (met, wanted) = match goal {
                Goal::AtMost(goal) => (median <= *goal, format!("at most {goal:.2}")),
                Goal::AtLeast(goal) => (median >= *goal, format!("at least {goal:.2}")),
                Goal::Beside(..) => continue,
            };
            if !met {
                self.missed.push(format!("{what}: {median:.2} {unit}, {wanted} is the goal"));
            }
        }
        println!("{text}");
    }
}
