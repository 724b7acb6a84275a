//! The extensions, top to bottom: the only place that knows them all.
//!
//! Height is meaning: each makes the server below look like one that has it, to everything above (architecture section 7).

pub mod children;
pub mod enable;
pub mod esearch;
pub mod filters;
pub mod id;
pub mod idle;
pub mod list_extended;
pub mod list_status;
pub mod listext;
pub mod lnotification;
pub mod metadata;
pub mod r#move;
pub mod namespace;
pub mod notify;
pub mod searchres;
pub mod special_use;
pub mod status_size;
pub mod uidplus;
pub mod unselect;
pub mod within;

use crate::session::layer::Extension;

/// The list, top to bottom.
pub static ALL: [&Extension; 22] = [
    &id::ID,
    &idle::IDLE,
    &notify::NOTIFY,
    &lnotification::LNOTIFICATION,
    &lnotification::XDELTAPUSH,
    &lnotification::WEBPUSH,
    &searchres::SEARCHRES,
    &esearch::ESEARCH,
    &uidplus::UIDPLUS,
    &r#move::MOVE,
    &filters::FILTERS,
    &within::WITHIN,
    &list_status::LIST_STATUS,
    &status_size::STATUS_SIZE,
    &special_use::SPECIAL_USE,
    &listext::LISTEXT,
    &list_extended::LIST_EXTENDED,
    &children::CHILDREN,
    &metadata::METADATA,
    &enable::ENABLE,
    &namespace::NAMESPACE,
    &unselect::UNSELECT,
];

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        imap::{capability::Capabilities, verb},
        session::{
            plan::{Mode, NonSync, Offer, Plan},
            profile,
        },
        units::Size,
    };

    fn offer(modes: &[(&str, Mode)]) -> Offer {
        let modes = modes.iter().map(|(name, mode)| ((*name).to_owned(), *mode)).collect();
        Offer { modes, literals: NonSync::Plus, compress: false, append: Size::mib(1), account: Arc::default() }
    }

    fn plan(backend: &str, modes: &[(&str, Mode)]) -> Plan {
        Plan::new(&ALL, &profile::UNKNOWN, Capabilities::parse(backend.as_bytes()), &offer(modes), false)
    }

    fn layers(plan: &Plan) -> Vec<&str> {
        plan.layers.iter().map(|layer| layer.name).collect()
    }

    #[test]
    fn what_the_backend_lacks_is_ours_and_what_it_has_is_its_own() {
        assert_eq!(
            layers(&plan("IMAP4rev1", &[])),
            [
                "ID",
                "IDLE",
                "NOTIFY",
                "SEARCHRES",
                "ESEARCH",
                "UIDPLUS",
                "FILTERS",
                "WITHIN",
                "LIST-STATUS",
                "SPECIAL-USE",
                "LISTEXT",
                "LIST-EXTENDED",
                "CHILDREN",
                "METADATA",
                "ENABLE",
                "NAMESPACE",
                "UNSELECT"
            ]
        );
        assert_eq!(
            layers(&plan(
                "IMAP4rev1 CHILDREN LIST-EXTENDED LIST-STATUS SPECIAL-USE NAMESPACE UNSELECT ID ENABLE ESEARCH UIDPLUS",
                &[]
            )),
            ["ID", "IDLE", "NOTIFY", "SEARCHRES", "MOVE", "FILTERS", "WITHIN", "LISTEXT", "METADATA", "ENABLE"]
        );
    }

    #[test]
    fn the_operator_has_the_last_word() {
        let plan = plan(
            "IMAP4rev1 CHILDREN LIST-EXTENDED LIST-STATUS SPECIAL-USE NAMESPACE UNSELECT SEARCHRES ESEARCH WITHIN",
            &[("NAMESPACE", Mode::Always), ("UNSELECT", Mode::Never), ("UIDPLUS", Mode::Never)],
        );
        assert_eq!(layers(&plan), ["ID", "IDLE", "NOTIFY", "FILTERS", "LISTEXT", "METADATA", "ENABLE", "NAMESPACE"]);
        assert!(plan.told.has("NAMESPACE") && !plan.told.has("UNSELECT"));
        assert!(!plan.offers(verb::find(b"UNSELECT").unwrap()));
    }

    #[test]
    fn what_is_not_true_of_what_a_layer_makes_of_a_backend_is_not_told() {
        let told = |modes| plan("IMAP4rev1 METADATA LIST-METADATA XDELTAPUSH WEBPUSH", modes).told;
        assert!(!told(&[]).has("LIST-METADATA") && told(&[("METADATA", Mode::Never)]).has("LIST-METADATA"));
        assert!(told(&[]).has("XDELTAPUSH") && told(&[]).has("WEBPUSH"), "the backend pushes");
        assert!(!told(&[("XDELTAPUSH", Mode::Never)]).has("XDELTAPUSH"));
    }

    #[test]
    fn what_a_layer_does_the_backend_does_not() {
        let words = "IMAP4rev1 METADATA FILTERS CREATE-SPECIAL-USE SPECIAL-USE LIST-EXTENDED";
        let forced = plan(words, &[("FILTERS", Mode::Always), ("SPECIAL-USE", Mode::Always)]);
        assert_eq!(forced.native.text(), "IMAP4rev1 METADATA LIST-EXTENDED");
        assert_eq!(plan(words, &[]).native.text(), words);
    }

    #[test]
    fn what_takes_another_connection_is_ours_only_where_it_can_be_logged_in() {
        let told = |backend: &[u8], aside| {
            let plan = Plan::new(&ALL, &profile::UNKNOWN, Capabilities::parse(backend), &offer(&[]), aside);
            (layers(&plan).contains(&"STATUS=SIZE"), plan.told.has("STATUS=SIZE"))
        };
        assert_eq!(told(b"IMAP4rev1", true), (true, true));
        assert_eq!(told(b"IMAP4rev1", false), (false, false));
        assert_eq!(told(b"IMAP4rev1 STATUS=SIZE", false), (false, true));
    }

    #[test]
    fn what_a_server_cannot_honestly_have_is_added_only_by_the_operators_word() {
        let uidplus = |offer: &Offer| {
            let mailutils = profile::find("mailutils").unwrap();
            Plan::new(&ALL, mailutils, Capabilities::parse(b"IMAP4rev1 IDLE"), offer, true).told.has("UIDPLUS")
        };
        let dovecot = profile::find("dovecot").unwrap();
        let plan = Plan::new(&ALL, dovecot, Capabilities::parse(b"IMAP4rev1 NOTIFY"), &offer(&[]), true);
        assert!(layers(&plan).contains(&"NOTIFY") && plan.told.has("NOTIFY"), "what it has and does not keep is ours");
        assert!(!uidplus(&offer(&[])));
        assert!(uidplus(&offer(&[("UIDPLUS", Mode::Always)])));
    }

    #[test]
    fn of_a_backend_the_client_is_told_what_is_true_of_the_mail() {
        let plan = plan("IMAP4rev1 LITERAL- AUTH=PLAIN STARTTLS X-ODD UTF8=ACCEPT QUOTA IDLE APPENDLIMIT=1000", &[]);
        assert_eq!(
            plan.told.text(),
            "IMAP4rev1 QUOTA UNSELECT NAMESPACE ENABLE METADATA CHILDREN LIST-EXTENDED LISTEXT SPECIAL-USE \
             CREATE-SPECIAL-USE LIST-STATUS WITHIN FILTERS UIDPLUS ESEARCH SEARCHRES NOTIFY IDLE ID LITERAL+ APPENDLIMIT=1000"
        );
    }

    #[test]
    fn a_literal_is_pushed_only_where_it_is_read() {
        let verb = |name: &str| verb::find(name.as_bytes()).unwrap();
        let plus = plan("IMAP4rev1 LITERAL+", &[]);
        assert!(plus.may_push(verb("APPEND"), 1 << 20, false));
        for (verb, why) in [(verb("NOOP"), "no strings"), (&verb::UNKNOWN, "unknown"), (verb("SETACL"), "not said")] {
            assert!(!plus.may_push(verb, 1, false), "{why}");
        }
        assert!(!plus.may_push(verb("APPEND"), 1, true), "literal8 without BINARY");
        assert!(!plan("IMAP4rev1", &[]).may_push(verb("APPEND"), 1, false));
        let minus = plan("IMAP4rev1 LITERAL-", &[]);
        assert!(minus.may_push(verb("APPEND"), 4096, false) && !minus.may_push(verb("APPEND"), 4097, false));
    }
}
