//! Webhooks: where somebody wants to hear of what, and with which secret it is signed.
