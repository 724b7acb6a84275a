//! Commands that change messages: STORE, EXPUNGE, COPY, MOVE. RFC 3501 6.4, RFC 4315 (UIDPLUS), RFC 6851 (MOVE).

use super::{
    Connection,
    changes::say,
    connection::End,
    store::Uid,
    syntax::{Cursor, Malformed, runs},
};

/// What STORE does with the flags it names.
#[derive(Clone, Copy)]
enum Change {
    Replace,
    Add,
    Remove,
}

impl Connection {
    /// The messages a set names for this session, be it by the `$` of RFC 5182.
    pub(super) fn set(&mut self, cursor: &mut Cursor<'_>, by_uid: bool) -> Result<Vec<Uid>, End> {
        let known = self.selected()?.uids();
        if self.backend.store().settings.has("SEARCHRES") && cursor.eat(b"$") {
            let saved = &self.selected()?.saved;
            return Ok(known.into_iter().filter(|uid| saved.contains(uid)).collect());
        }
        Ok(cursor.set()?.uids(&known, by_uid)?)
    }

    fn writable(&mut self) -> Result<String, End> {
        let selected = self.selected()?;
        if selected.read_only {
            return Err(End::No("Mailbox is read-only".to_owned()));
        }
        Ok(selected.name.clone())
    }

    pub(super) fn store(&mut self, mut cursor: Cursor<'_>, by_uid: bool, out: &mut Vec<u8>) -> Result<End, End> {
        let uids = self.set(&mut cursor, by_uid)?;
        cursor.space()?;
        let item = cursor.word()?.to_uppercase();
        cursor.space()?;
        let flags = if cursor.peek() == Some(b'(') { cursor.words()? } else { bare_words(&mut cursor)? };
        cursor.done()?;
        let name = self.writable()?;
        let (kind, silent) = item.strip_suffix(".SILENT").map_or((item.as_str(), false), |kind| (kind, true));
        let change = match kind {
            "FLAGS" => Change::Replace,
            "+FLAGS" => Change::Add,
            "-FLAGS" => Change::Remove,
            _ => return Err(Malformed.into()),
        };
        let early = self.manners().early_expunge && by_uid;
        for uid in uids {
            if early && self.random.one_in(3) {
                self.tell(true, out);
            }
            self.with_selected(|selected, store, _| {
                let Some(mailbox) = store.mailbox(&name) else { return };
                let Some(message) = mailbox.message_mut(uid) else { return };
                if matches!(change, Change::Replace) {
                    message.flags.clear();
                }
                for flag in &flags {
                    match change {
                        Change::Remove => message.clear(flag),
                        Change::Replace | Change::Add => message.set(flag),
                    }
                }
                let message = message.clone();
                selected.told(&message);
                if let Some(number) = selected.number(uid).filter(|_| !silent) {
                    mailbox.take_down();
                    let modseq = selected.modseq_of(mailbox, uid);
                    let named = by_uid || selected.syncing.vanished;
                    let uid = if named { format!(" UID {uid}") } else { String::new() };
                    say(out, &format!("* {number} FETCH (FLAGS ({}){uid}{modseq})", selected.flags(&message)));
                }
            });
        }
        let verb = if by_uid { "UID STORE".to_owned() } else { kind.to_owned() };
        Ok(End::Ok(format!("{verb} completed")))
    }

    pub(super) fn expunge(&mut self, mut cursor: Cursor<'_>, by_uid: bool, out: &mut Vec<u8>) -> Result<End, End> {
        let name = self.writable()?;
        let mut only = None;
        if by_uid {
            self.needs("UIDPLUS")?;
            only = Some(self.set(&mut cursor, true)?);
        }
        cursor.done()?;
        let marked = {
            let mut store = self.backend.store();
            let mailbox = store.mailbox(&name).ok_or_else(|| End::No("Mailbox is gone".to_owned()))?;
            let named = |uid: Uid| only.as_ref().is_none_or(|uids| uids.contains(&uid));
            let marked = mailbox.messages.iter().filter(|message| message.has("\\Deleted") && named(message.uid));
            let marked: Vec<Uid> = marked.map(|message| message.uid).collect();
            mailbox.expunge(&marked);
            marked
        };
        self.tell_own_removals(&marked, out);
        Ok(End::Ok(format!("{}EXPUNGE completed", if by_uid { "UID " } else { "" })))
    }

    /// What a session has removed itself it is told of in any case.
    fn tell_own_removals(&mut self, uids: &[Uid], out: &mut Vec<u8>) {
        let silently = self.manners().silent_expunge;
        self.with_selected(|selected, _, _| selected.tell_removed(|uid| uids.contains(&uid), silently, out));
        self.tell(true, out);
    }

    pub(super) fn copy(
        &mut self,
        mut cursor: Cursor<'_>,
        by_uid: bool,
        moves: bool,
        out: &mut Vec<u8>,
    ) -> Result<End, End> {
        if moves {
            self.needs("MOVE")?;
        }
        let uids = self.set(&mut cursor, by_uid)?;
        cursor.space()?;
        let to = cursor.text()?;
        cursor.done()?;
        let from = if moves { self.writable()? } else { self.selected()?.name.clone() };
        if self.manners().early_expunge && by_uid && self.random.one_in(2) {
            self.tell(true, out);
        }
        let code = self.copy_messages(&uids, &from, &to)?;
        let prefix = if by_uid { "UID " } else { "" };
        if !moves {
            return Ok(End::Ok(format!("{code}{prefix}COPY completed")));
        }
        if !code.is_empty() {
            say(out, &format!("* OK {code}Moved"));
        }
        if let Some(mailbox) = self.backend.store().mailbox(&from) {
            mailbox.expunge(&uids);
        }
        self.tell_own_removals(&uids, out);
        Ok(End::Ok(format!("{prefix}MOVE completed")))
    }

    /// All of them or none (RFC 3501 6.4.7); the code that says where they went, with a blank behind it.
    fn copy_messages(&mut self, uids: &[Uid], from: &str, to: &str) -> Result<String, End> {
        let mut store = self.backend.store();
        let uidplus = store.settings.has("UIDPLUS");
        let source = store.mailbox(from).ok_or_else(|| End::No("Mailbox is gone".to_owned()))?;
        let copies: Vec<_> = uids.iter().filter_map(|&uid| source.message(uid).cloned()).collect();
        let Some(target) = store.mailbox(to).filter(|mailbox| !mailbox.noselect) else {
            return Err(End::No(format!("[TRYCREATE] Mailbox doesn't exist: {to}")));
        };
        let (mut copied, mut new) = (Vec::new(), Vec::new());
        for copy in copies {
            copied.push(copy.uid);
            let message = target.append(None, copy.flags, copy.octets);
            message.date = copy.date;
            new.push(message.uid);
        }
        if !uidplus || new.is_empty() {
            return Ok(String::new());
        }
        Ok(format!("[COPYUID {} {} {}] ", target.uidvalidity, runs(&copied), runs(&new)))
    }
}

/// Flags without parentheses: `\Deleted \Seen`.
fn bare_words(cursor: &mut Cursor<'_>) -> Result<Vec<String>, Malformed> {
    let mut words = vec![cursor.word()?];
    while cursor.eat(b" ") {
        words.push(cursor.word()?);
    }
    Ok(words)
}
