//! Which nonces this thread has used with which key: noted by every seal and open of a test.

use std::cell::RefCell;

/// One use: the secret that the key is made of, and the nonce.
type Use = (Vec<u8>, [u8; 12]);

thread_local! {
    static NOTED: RefCell<Option<Vec<Use>>> = const { RefCell::new(None) };
}

/// Notes a use, if anybody watches.
pub(crate) fn note(secret: &[u8], nonce: [u8; 12]) {
    NOTED.with_borrow_mut(|noted| {
        if let Some(noted) = noted {
            noted.push((secret.to_vec(), nonce));
        }
    });
}

/// Watches the nonces that `work` uses.
pub(crate) fn watch(work: impl FnOnce()) -> Vec<Use> {
    NOTED.with_borrow_mut(|noted| *noted = Some(Vec::new()));
    work();
    NOTED.with_borrow_mut(Option::take).unwrap_or_default()
}
