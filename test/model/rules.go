package model

// Rules are those of docs/takeover.md, each a switch, so that tests can show
// what each one is for. A rule holds if it is true.
type Rules struct {
	// The lease ("Words", "The owner's side").
	FromSending    bool    // it is counted from the sending of a renewal, not from the answer
	NeverRevived   bool    // once over it stays over, whatever Consul says
	OwnSession     bool    // only the session that a volume is held under prolongs its lease
	Confirm        Confirm // which renewals count only with a consistent read of the host's key
	Guarded        bool    // where the terms say "guarded" there is a guard
	Synced         bool    // a cut is verified only when nothing is left to be written
	Checked        bool    // a mount is answered only if lease and incarnation are still good
	NamedFirst     bool    // a volume is mounted only once the record names the client, if that is known only then
	NamedInOrder   bool    // which is written over the version that was read
	ReleasedIsGone bool    // a release is made only when nothing is left to be written

	// A taker's wait ("Slow, by lease").
	WaitTTL, WaitF, WaitDrift bool // what W is the sum of
	WaitFromAnswer            bool // it is counted from the answer to the read of the free key, not from its sending
	KeyUnchanged              bool // it begins again when the host's key changes
	IntendsFirst              bool // the intent comes before the wait, not after it
	TermsAccept               bool // a proof by lease counts only under terms "cut"

	// Transactions.
	Intended     bool // a taker sets its intent into the owner record before it fences
	Recorded     bool // and makes the fence's record with it, as not proven yet
	Proven       bool // take requires a proof
	Covered      bool // of a domain that covers the volume
	NoProof      bool // re-adopt requires that there is no fence record in such a domain
	TermsKept    bool // re-adopt writes the terms anew
	IdentityKept bool // and leaves the identity that the volume is mounted by
	ProvesItself bool // an old owner that is being taken over proves that it is clean, and changes nothing else while the taker lives

	// Fences and their ends.
	FenceWorks    bool // a fence that reports success has cut the host off
	CleanFirst    bool // un-fencing waits until the host has verified its cut
	UndoesEarlier bool // it undoes the fences of earlier incarnations and no others, however late it arrives
	UnfencedFirst bool // a host owns nothing in a domain that it may be cut off from, and un-fences itself first
}

// Confirm says which renewals count only once a consistent read, made after
// the answer, finds the host's key locked by the session.
type Confirm uint8

// What is confirmed.
const (
	Unconfirmed Confirm = iota
	InDoubt             // those sent when the last that counts was TTL/2 ago or more
	Always
)

// AllRules returns the rules with none taken out.
func AllRules() Rules {
	return Rules{
		FromSending: true, NeverRevived: true, OwnSession: true, Confirm: Always, Guarded: true, Synced: true, Checked: true, NamedFirst: true, NamedInOrder: true, ReleasedIsGone: true,
		WaitTTL: true, WaitF: true, WaitDrift: true, WaitFromAnswer: true, KeyUnchanged: true, IntendsFirst: true, TermsAccept: true,
		Intended: true, Recorded: true, Proven: true, Covered: true, NoProof: true, TermsKept: true, IdentityKept: true, ProvesItself: true,
		FenceWorks: true, CleanFirst: true, UndoesEarlier: true, UnfencedFirst: true,
	}
}
