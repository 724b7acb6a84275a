//! An event of RFC 5423 as a transcript writes it: what has happened, and then what is known of it.
//!
//! ```text
//! E: MailboxRename Play from=Work
//! E: MessageAppend Work uidvalidity=38505 uids=3955:3957 flags=\Seen,work size=310
//! E: MessageNew Work uidvalidity=38505 uids=3958 count=4 next=3959
//! E: QuotaExceed root="" storage=512/512
//! E: Login joe
//! E: Logout graceful
//! ```

use std::fmt::Display;

use lemonade_proxy::mailbox::event::{Event, Resource};

/// The event as a line.
pub fn written(event: &Event) -> String {
    let mut line = format!("{:?}", event.kind);
    let mut add = |name: &str, value: Option<&dyn Display>| {
        if let Some(value) = value {
            line.push_str(&format!(" {name}{value}"));
        }
    };
    let name = |octets: &Option<Box<[u8]>>| octets.as_deref().map(|octets| octets.escape_ascii().to_string());
    let (mailbox, old) = (name(&event.mailbox), name(&event.old_mailbox));
    add("", mailbox.as_ref().map(|name| name as _));
    add("from=", old.as_ref().map(|name| name as _));
    add("uidvalidity=", event.uidvalidity.as_ref().map(|number| number as _));
    add("uids=", (!event.uids.is_empty()).then_some(&event.uids));
    add("flags=", (!event.flags.is_empty()).then_some(&event.flags.join(",")));
    add("size=", event.size.as_ref().map(|size| size as _));
    add("count=", event.messages.as_ref().map(|number| number as _));
    add("next=", event.uidnext.as_ref().map(|number| number as _));
    if let Some(quota) = &event.quota {
        add("root=", Some(&format!("\"{}\"", quota.root.escape_ascii())));
        let resource = if quota.resource == Resource::Storage { "storage=" } else { "messages=" };
        add(resource, Some(&format!("{}/{}", quota.used, quota.limit)));
    }
    line
}
