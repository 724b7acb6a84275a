//! When a server with which we hold a link is called again.
//!
//!     lost              after 1 s, 2, 4 ... 60, and after 1 s again where a link has lasted a minute
//!     it refuses us     after 60 s: somebody has to change something first
//!
//! Requirement N20.

use std::time::Duration;

/// The first pause, ...
const FIRST: Duration = Duration::from_secs(1);
/// ... and the longest.
const LONGEST: Duration = Duration::from_secs(60);

/// How long the next pause is.
#[derive(Debug)]
pub struct Redial {
    pause: Duration,
}

impl Default for Redial {
    fn default() -> Self {
        Self { pause: FIRST }
    }
}

impl Redial {
    /// How long to wait after a session that lasted so long, and that ended by a refusal, or by anything else.
    pub fn after(&mut self, is_refused: bool, lasted: Duration) -> Duration {
        if lasted >= LONGEST {
            self.pause = FIRST;
        }
        let pause = if is_refused { LONGEST } else { self.pause };
        self.pause = (self.pause * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_server_is_called_again_later_each_time() {
        let mut redial = Redial::default();
        let short = seconds(1);
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(redial.after(false, short), seconds(pause));
        }
        assert_eq!(redial.after(false, seconds(60)), seconds(1));
        assert_eq!(redial.after(true, short), seconds(60));
        assert_eq!(Redial::default().after(true, short), seconds(60));
    }
}
