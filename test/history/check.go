package history

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Check returns an error that names what is wrong with a volume's history, or nil:
//
//   - The log has each append that succeeded, once, in order, and nothing that
//     was not appended. Whoever failed may be in it once, or not, or as zeros: a
//     CephFS's MDS may know of the length of what never came.
//   - Epochs follow each other: in the log none comes after a higher one, no two
//     hosts have the same, and nothing of one succeeds that was called after
//     something of a higher one had succeeded.
//   - The register is linearizable, where a write that failed, or did not end, has
//     happened before the next epoch begins or never.
//
// Reads of an owner that was replaced, and can't know it, prove nothing: a fence
// stops writes. They count until the next epoch begins, or until its last write that
// succeeded if it was told that one had failed after that; but for those of what it was told
// had not been written.
func (v Volume) Check() error {
	order, err := v.byEpoch()
	if err == nil {
		err = errors.Join(checkLog(order, v.Look), checkEpochs(order), checkRegister(order, v.Look))
	}
	if err != nil {
		return fmt.Errorf("volume %s: %w", v.Name, err)
	}
	return nil
}

// byEpoch are the tenures in the order of their epochs, each of which is of one
// host alone.
func (v Volume) byEpoch() ([]Tenure, error) {
	hosts := make(map[uint64]string)
	for _, t := range v.Tenures {
		if t.Epoch == 0 {
			return nil, fmt.Errorf("nobody knows the epoch of %s", t.Worker)
		}
		if other, ok := hosts[t.Epoch]; ok && other != t.Host {
			return nil, fmt.Errorf("both %s and %s owned it in epoch %d", other, t.Host, t.Epoch)
		}
		hosts[t.Epoch] = t.Host
	}
	order := slices.Clone(v.Tenures)
	slices.SortStableFunc(order, func(a, b Tenure) int { return cmp.Compare(a.Epoch, b.Epoch) })
	return order, nil
}

// checkEpochs looks for operations that succeeded although they were called after
// a write of a later tenure had succeeded.
func checkEpochs(order []Tenure) error {
	var errs []error
	for i, t := range order {
		next, by := time.Duration(0), Tenure{}
		for _, later := range order[i+1:] {
			if at := later.firstWrite(); at != 0 && (next == 0 || at < next) {
				next, by = at, later
			}
		}
		var late []string
		for _, o := range t.Ops {
			if o.Kind != Read && o.ok() && next != 0 && o.Call > next {
				late = append(late, o.Value)
			}
		}
		if len(late) > 0 {
			errs = append(errs, fmt.Errorf("%d writes of epoch %d, %s to %s, succeeded after one of epoch %d, by %s",
				len(late), t.Epoch, late[0], late[len(late)-1], by.Epoch, by.Worker))
		}
	}
	return errors.Join(errs...)
}

// firstWrite is when the first write of a tenure had succeeded; 0 if none did.
func (t Tenure) firstWrite() time.Duration {
	for _, o := range t.Ops {
		if o.Kind != Read && o.ok() {
			return o.Return
		}
	}
	return 0
}

// checkLog holds the lines of a log against what was appended.
func checkLog(order []Tenure, look Look) error {
	type origin struct{ tenure, seq int }
	appended := make(map[string]origin)
	zeros := 0 // that there may be
	for i, t := range order {
		for n, o := range t.Ops {
			if o.Kind == Append && o.Call <= look.To {
				appended[o.Value] = origin{i, n}
				if !o.ok() {
					zeros += len(o.Value + "\n")
				}
			}
		}
	}
	var errs errorList
	seen := make(map[string]int)
	last := origin{tenure: -1}
	for i, line := range look.Log {
		if rest := strings.TrimLeft(line, "\x00"); len(line)-len(rest) <= zeros {
			zeros -= len(line) - len(rest)
			line = rest
		}
		from, ok := appended[line]
		switch {
		case !ok:
			errs.add("line %d of the log, %q, was not appended by anybody", i+1, line)
			continue
		case seen[line] != 0:
			errs.add("line %d of the log, %s, is line %d again", i+1, line, seen[line])
			continue
		case from.tenure < last.tenure:
			errs.add("line %d of the log, %s, is of epoch %d, after one of epoch %d", i+1, line, order[from.tenure].Epoch, order[last.tenure].Epoch)
		case from.tenure == last.tenure && from.seq < last.seq:
			errs.add("line %d of the log, %s, was appended before the line above it", i+1, line)
		}
		seen[line] = i + 1
		if from.tenure >= last.tenure {
			last = from
		}
	}
	for _, t := range order {
		for _, o := range t.Ops {
			if o.Kind == Append && o.ok() && o.Return <= look.From && seen[o.Value] == 0 {
				errs.add("%s, appended in epoch %d, is lost", o.Value, t.Epoch)
			}
		}
	}
	return errs.join()
}

// errorList is the first errors of many.
type errorList struct {
	errs []string
	more int
}

func (l *errorList) add(format string, args ...any) {
	const enough = 5
	if len(l.errs) == enough {
		l.more++
		return
	}
	l.errs = append(l.errs, fmt.Sprintf(format, args...))
}

func (l *errorList) join() error {
	if len(l.errs) == 0 {
		return nil
	}
	if l.more > 0 {
		l.errs = append(l.errs, fmt.Sprintf("and %d more", l.more))
	}
	return errors.New(strings.Join(l.errs, "\n"))
}
