//! What an operator asks and changes of the accounts in the store (requirement A5).
//!
//!     GET    /devices/joe           its devices, and what holds for each
//!     PUT    /devices/joe/pixel     {"channel": "SMS=WAKEUP", "address": "+4915112345678"}
//!     DELETE /accounts/joe          {"entries": 12, "devices": 2}
//!
//! A user is named as at login; routing says which account of which backend that is.

use std::{pin::Pin, sync::Arc};

use serde_json::{Value, json};

use super::{keeper, shell::Shell};
use crate::{
    account::{
        device::{self, DeviceView, Wish},
        preference::Wrong,
    },
    session::{
        self,
        effect::{Annotated, Keeping, Kept},
    },
    store::{AccountName, Change, Changed, DeviceName, Entry, Found, Query, StoreError},
};

/// What is to be done with an account.
#[derive(Clone, Debug)]
pub enum Order {
    /// Say which devices there are.
    List,
    /// Say what holds for one.
    Show(DeviceName),
    /// Change what it prefers.
    Set(DeviceName, Wish),
    /// Forget it, and what is its own.
    Forget(DeviceName),
    /// Forget all that is kept of the user.
    Purge,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Routing knows no backend for this name, or cannot find out.
    #[error("no backend for this user: {0}")]
    User(crate::session::effect::DialError),
    /// Nothing is known of it.
    #[error("this user has no such device")]
    Device,
    /// It is no preference, or none that can be had.
    #[error("{0}")]
    Wish(Wrong),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// An order that is carried out.
pub type Managing<'a> = Pin<Box<dyn Future<Output = Result<Value, AccountError>> + Send + 'a>>;

impl Shell {
    /// Does this with the account of a user.
    pub async fn manage(&self, user: &str, order: Order) -> Result<Value, AccountError> {
        let account = self.account(user).await?;
        match order {
            Order::List => Ok(json!(self.devices(&account).await?)),
            Order::Show(device) => self.device(&account, &device).await,
            Order::Set(device, wish) => {
                self.set(&account, &device, &wish).await?;
                self.device(&account, &device).await
            }
            Order::Forget(device) => match self.save(&account, Change::Forget(device)).await? {
                Changed { entries: 0, devices: 0 } => Err(AccountError::Device),
                changed => Ok(counts(changed)),
            },
            Order::Purge => Ok(counts(self.save(&account, Change::Purge).await?)),
        }
    }

    /// Which account a name at login leads to.
    async fn account(&self, user: &str) -> Result<AccountName, AccountError> {
        let setup = self.setup.load_full();
        let dialers: Vec<_> = setup.dialers.values().cloned().collect();
        let (dialer, user) = self.find_backend(&dialers, Some(user)).await.map_err(AccountError::User)?;
        Ok(AccountName { backend: Arc::clone(&dialer.name), user })
    }

    async fn device(&self, account: &AccountName, name: &DeviceName) -> Result<Value, AccountError> {
        let devices = self.devices(account).await?;
        let found = devices.into_iter().find(|device| device.device == name.as_str());
        found.map(|device| json!(device)).ok_or(AccountError::Device)
    }

    async fn devices(&self, account: &AccountName) -> Result<Vec<DeviceView>, AccountError> {
        let seen = match self.keeper.ask(account, &Keeping::Load(Query::Devices)).await? {
            Kept::Found(Found::Devices(seen)) => seen,
            _ => Vec::new(),
        };
        Ok(device::devices(seen, &self.entries(account).await?, keeper::now()))
    }

    async fn entries(&self, account: &AccountName) -> Result<Vec<Entry>, AccountError> {
        match self.keeper.ask(account, &Keeping::Load(Query::Entries)).await? {
            Kept::Found(Found::Entries(entries)) => Ok(entries),
            _ => Ok(Vec::new()),
        }
    }

    async fn set(&self, account: &AccountName, device: &DeviceName, wish: &Wish) -> Result<(), AccountError> {
        let settings = Arc::clone(&self.setup.load().config.account);
        let entries = self.entries(account).await?;
        let edits = device::edits(wish, device, &entries, &settings).map_err(AccountError::Wish)?;
        let changed = edits.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        self.save(account, Change::Entries { edits, quota: settings.quota() }).await?;
        if let Some(key) = changed.first() {
            let (mailbox, owner) = (key.mailbox.clone(), key.owner.clone());
            let entries = changed.iter().map(|key| key.name.clone()).collect();
            let what = Annotated { mailbox, owner, entries };
            self.registry.publish(account, None, session::effect::Notice::Annotated(what));
        }
        Ok(())
    }

    async fn save(&self, account: &AccountName, change: Change) -> Result<Changed, AccountError> {
        match self.keeper.ask(account, &Keeping::Save(change)).await? {
            Kept::Saved(changed) => Ok(changed),
            Kept::Found(_) | Kept::OverQuota(_) => Ok(Changed::default()),
        }
    }
}

fn counts(changed: Changed) -> Value {
    json!({ "entries": changed.entries, "devices": changed.devices })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        account::channel::{Format, Kind},
        io::{backends::Backend, shell::tests::shell},
    };

    fn wish(channel: &str) -> Wish {
        Wish { channel: Some(channel.to_owned()), ..Wish::default() }
    }

    #[tokio::test]
    async fn a_device_is_set_shown_forgotten_and_purged() {
        let (_state, shell) = shell(|config| {
            config.backends = [("main".to_owned(), Backend::default())].into();
            Arc::make_mut(&mut config.account).outband.channels = [(Kind::Udp, vec![Format::Wakeup])].into();
        });
        let pixel = DeviceName::parse(b"pixel").unwrap();
        let shown = shell.manage("joe", Order::Set(pixel.clone(), wish("UDP=WAKEUP"))).await.unwrap();
        assert_eq!(shown["defaults"]["channel"]["value"], "UDP=WAKEUP");
        assert_eq!(shell.manage("joe", Order::List).await.unwrap()[0]["device"], "pixel");
        assert_eq!(shell.manage("ann", Order::List).await.unwrap(), json!([]));
        assert!(matches!(shell.manage("ann", Order::Show(pixel.clone())).await, Err(AccountError::Device)));
        let refused = shell.manage("joe", Order::Set(pixel.clone(), wish("SMS=WAKEUP"))).await;
        assert!(matches!(refused, Err(AccountError::Wish(_))));
        assert_eq!(shell.manage("joe", Order::Forget(pixel.clone())).await.unwrap()["entries"], 1);
        assert!(matches!(shell.manage("joe", Order::Forget(pixel.clone())).await, Err(AccountError::Device)));
        shell.manage("joe", Order::Set(pixel, wish("NONE"))).await.unwrap();
        assert_eq!(shell.manage("joe", Order::Purge).await.unwrap(), json!({ "entries": 1, "devices": 0 }));
        assert_eq!(shell.manage("joe", Order::List).await.unwrap(), json!([]));
    }

    #[tokio::test]
    async fn a_user_of_no_backend_has_no_account() {
        let (_state, shell) = shell(|config| {
            config.backends = ["a", "b"].map(|name| (name.to_owned(), Backend::default())).into();
        });
        assert!(matches!(shell.manage("joe", Order::List).await, Err(AccountError::User(_))));
    }
}
