package coordination

// Op is one operation of a transaction.
type Op struct {
	Kind   OpKind
	Record Record // Value is used by OpPut alone
}

// OpKind says what an Op does.
type OpKind int

const (
	OpPut    OpKind = iota // write Record.Value
	OpDelete               // delete the record
	OpCheck                // change nothing
)

// Put writes r over the record of r.Version, or creates it if that is 0.
func Put(r Record) Op { return Op{OpPut, r} }

// Delete removes the record of r.Version; that it is at another version, or
// gone, is ErrConflict. No record is at version 0.
func Delete(r Record) Op { return Op{OpDelete, r} }

// Check requires that the record is still at r.Version, or that there is none
// if that is 0.
func Check(r Record) Op { return Op{OpCheck, r} }
