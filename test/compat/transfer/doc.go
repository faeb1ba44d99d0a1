// Package transfer tests quorate import and export with what real etcds have written, and with real etcds that read what was
// written for them: 3.7 of the pinned module and Debian's 3.4.
//
// Facts are asked of the running source over its API, HashKV at its newest and older revisions among them, and compared with what
// the copy answers when it runs.
package transfer
