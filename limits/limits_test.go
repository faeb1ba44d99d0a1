package limits

import "testing"

// TestRelations states what the bounds assume of each other.
func TestRelations(t *testing.T) {
	for _, c := range []struct {
		ok   bool
		says string
	}{
		{RequestBytes < ProposalBatchBytes, "one request must fit a proposal batch"},
		{ProposalBatchBytes <= ApplyBatchBytes, "a proposal batch must fit an apply batch"},
		{ProposalBatchEntries <= ApplyBatchEntries, "a proposal batch must fit an apply batch"},
		{RequestBytes+RequestOverheadBytes < LogSegmentBytes, "a request must fit a log segment"},
		{RaftMessageBytes <= ProposalBatchBytes, "raft splits batches into messages, not the other way round"},
		{WatchBatchBytes <= WatchLogBytes/16, "a catch-up response must be a small part of the log"},
		{SnapshotChunkBytes < RequestBytes, "a snapshot chunk is a small message"},
		{QuotaBytesDefault < QuotaBytesSuggested, "the default quota is below the suggested maximum"},
		{LeaseCheckpointsPerReq*20 < RequestBytes, "a checkpoint of 20 bytes a lease must fit a request"},
		{PasswordQueuePerUser*2 <= PasswordQueue, "one user must not fill the queue of passwords"},
		{PasswordQueue <= PasswordsWaiting, "every password in the queue has somebody who waits for it"},
		{LeaseRevokesPerRound < ProposalsInFlight, "expiry must not fill the proposal queue"},
		{2*AuditKeyBytes <= AuditEntryBytes, "the first range of a request must fit an audit entry"},
		{V2WatcherEvents >= 2*ApplyBatchEntries, "a watcher that keeps up must not lose its stream to one batch"},
	} {
		if !c.ok {
			t.Error(c.says)
		}
	}
}
