//! What a command_status means (SMPP 3.4 section 5.1.3).
//!
//!     submit_sm_resp  58 RTHROTTLED    later, and all others wait too
//!     submit_sm_resp  0B RINVDSTADR    nothing will ever go to this number
//!     submit_sm_resp  0A RINVSRCADR    this message will not go: somebody has to be told
//!
//! A refused bind says nothing of any message. What is not in the table, as the numbers from 400 on that each vendor has given out by itself,
//! is a refusal of this message. Requirement N20.

use crate::outband::channel::Outcome;

/// Success.
pub const OK: u32 = 0x00;
/// A PDU whose length is not what is in it.
pub const INVALID_COMMAND_LENGTH: u32 = 0x02;
/// A PDU that we do not know.
pub const INVALID_COMMAND: u32 = 0x03;
/// A PDU at the wrong time.
pub const INVALID_BIND_STATUS: u32 = 0x04;

/// Statuses, and what each means for a notice.
const MEANINGS: [(&[u32], Outcome); 3] = [
    (&[OK], Outcome::Accepted),
    // RALYBND, RSYSERR, RBINDFAIL, RINVPASWD, RINVSYSID, RMSGQFUL, RTHROTTLED, RX_T_APPN, RUNKNOWNERR.
    (&[0x05, 0x08, 0x0d, 0x0e, 0x0f, 0x14, 0x58, 0x64, 0xff], Outcome::Later { after: None }),
    // RINVDSTADR.
    (&[0x0b], Outcome::Dead),
];

/// What has become of a short message that was answered so.
pub fn judge(status: u32) -> Outcome {
    MEANINGS.iter().find(|(statuses, _)| statuses.contains(&status)).map_or(Outcome::Failed, |(_, outcome)| *outcome)
}

/// Whether the SMSC has too much to do: RMSGQFUL, RTHROTTLED.
pub fn is_throttling(status: u32) -> bool {
    [0x14, 0x58].contains(&status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_has_become_of_a_message() {
        for (statuses, outcome) in [
            (&[0x00][..], Outcome::Accepted),
            (&[0x58, 0x14, 0x08, 0x64, 0xff, 0x05, 0x0d, 0x0e, 0x0f], Outcome::Later { after: None }),
            (&[0x0b], Outcome::Dead),
            (&[0x0a, 0x01, 0x45, 0x61, 0x65, 0x66, 0x03, 0x04, 0x02, 0x400, u32::MAX], Outcome::Failed),
        ] {
            for status in statuses {
                assert_eq!(judge(*status), outcome, "{status:x}");
            }
        }
        assert!(is_throttling(0x58) && is_throttling(0x14) && !is_throttling(0x08) && !is_throttling(OK));
    }
}
