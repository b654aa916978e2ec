package history

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// told is a volume's history in few words, an operation each, in the order of
// their calls. A worker's name is its host and a letter, such as 1a, and a comma is
// between what it does and what becomes of it:
//
//	1a W1 ok     1a writes 1a/1 to the register, and succeeds
//	1a A2 fail   1a appends 1a/2 to the log, and fails
//	1a R1b/1 ok  1a reads that
//	1a W3 late9  1a is told of its success when the operation numbered 9 is over
//	1a W4        1a never hears of it
func told(epochs map[string]uint64, look string, ops ...string) Volume {
	v := Volume{Name: "v", Look: Look{From: time.Hour, To: time.Hour + 1}}
	at := make(map[string]int)
	for i, op := range ops {
		words := strings.Fields(op)
		worker := words[0]
		n, ok := at[worker]
		if !ok {
			n = len(v.Tenures)
			at[worker] = n
			v.Tenures = append(v.Tenures, Tenure{Worker: worker, Host: worker[:1], Epoch: epochs[worker]})
		}
		o := Op{Call: time.Duration(10*i + 1)}
		said := words[1][1:]
		switch words[1][0] {
		case 'W':
			o.Kind, o.Value = Write, worker+"/"+said
		case 'A':
			o.Kind, o.Value = Append, worker+"/"+said
		case 'R':
			o.Kind, o.Value = Read, said
		}
		how := ""
		if len(words) > 2 {
			how = words[2]
		}
		late, isLate := strings.CutPrefix(how, "late")
		switch {
		case how == "ok":
			o.Return = o.Call + 5
		case isLate:
			fmt.Sscan(late, &o.Return)
			o.Return = 10*o.Return + 9
		case how == "fail":
			o.Err = "no"
		}
		v.Tenures[n].Ops = append(v.Tenures[n].Ops, o)
	}
	register, log, _ := strings.Cut(look, ":")
	v.Register, v.Log = strings.TrimSpace(register), strings.Fields(log)
	return v
}

func TestCheck(t *testing.T) {
	two := map[string]uint64{"1a": 1, "2a": 2, "1b": 3}
	for _, test := range []struct {
		name string
		v    Volume
		says string // empty: nothing is wrong
	}{
		{"nothing", told(two, ":"), ""},
		{"one owner", told(two, "1a/1: 1a/2", "1a R ok", "1a W1 ok", "1a A2 ok", "1a R1a/1 ok"), ""},
		{"two owners", told(two, "2a/1: 1a/2 2a/2", "1a W1 ok", "1a A2 ok", "2a R1a/1 ok", "2a W1 ok", "2a A2 ok"), ""},
		{"back again", told(two, "1b/1: 1a/2 2a/2 1b/2", "1a A2 ok", "2a A2 ok", "1b W1 ok", "1b A2 ok"), ""},
		{"a write nobody knows of happened", told(two, "1a/2:", "1a W1 ok", "1a W2 fail", "2a R1a/2 ok"), ""},
		{"a write nobody knows of did not happen", told(two, "1a/1:", "1a W1 ok", "1a W2 fail", "2a R1a/1 ok"), ""},
		{"many of which the second happened", told(two, "1a/3:", "1a W1 ok", "1a W2 fail", "1a W3 fail", "1a W4 fail", "1a W5", "2a R1a/3 ok"), ""},
		{"an append nobody knows of happened", told(two, ": 1a/1 2a/1", "1a A1 fail", "2a A1 ok"), ""},
		{"an append nobody knows of did not happen", told(two, ": 2a/1", "1a A1", "2a A1 ok"), ""},
		{"an append nobody knows of left its length", told(two, ": 1a/1 \x00\x00\x00\x00\x002a/1", "1a A1 ok", "1a A2 fail", "2a A1 ok"), ""},
		{"success is heard of late", told(two, "2a/1: 1a/2 2a/2", "1a W1 late9", "2a R1a/1 ok", "2a A2 ok", "2a W1 ok", "1a A2 fail"), ""},
		{"who was told that it failed reads it", told(two, "1a/1:", "1a W1 ok", "1a W2 fail", "1a R1a/2 ok", "2a R1a/1 ok"), ""},
		{"who was cut off reads nothing", told(two, "1a/1:", "1a W1 ok", "1a R ok", "1a W2 fail", "2a R1a/1 ok"), ""},
		{"who was replaced reads what was", told(two, "2a/1:", "1a W1 ok", "2a W1 ok", "1a R1a/1 ok"), ""},
		{"who was replaced writes in vain", told(two, "2a/1: 2a/3", "1a W1 ok", "2a W1 ok", "1a W2 fail", "2a R2a/1 ok", "2a A3 ok"), ""},

		{"append lost", told(two, ":", "1a A1 ok"), "1a/1, appended in epoch 1, is lost"},
		{"append lost in the middle", told(two, ": 1a/1 1a/3", "1a A1 ok", "1a A2 ok", "1a A3 ok"), "1a/2, appended in epoch 1, is lost"},
		{"append overwritten", told(two, ": 2a/1", "1a A1 ok", "2a A1 ok"), "1a/1, appended in epoch 1, is lost"},
		{"append twice", told(two, ": 1a/1 1a/1", "1a A1 ok"), "is line 1 again"},
		{"append out of nowhere", told(two, ": 1a/1 x", "1a A1 ok"), `"x", was not appended by anybody`},
		{"zeros for what was appended", told(two, ": \x00\x00\x00\x00\x002a/1", "1a A1 ok", "2a A1 ok"), "1a/1, appended in epoch 1, is lost"},
		{"more zeros than failed", told(two, ": 1a/1 \x00\x00\x00\x00\x00\x002a/1", "1a A1 ok", "1a A2 fail", "2a A1 ok"), "was not appended by anybody"},
		{"append torn", told(two, ": 1a/", "1a A1 fail"), `"1a/", was not appended by anybody`},
		{"appends disordered", told(two, ": 1a/2 1a/1", "1a A1 ok", "1a A2 ok"), "was appended before the line above it"},
		{"late append of who was replaced", told(two, ": 1a/1 2a/1 1a/2", "1a A1 ok", "1a A2 fail", "2a A1 ok"), "is of epoch 1, after one of epoch 2"},
		{"append of who was replaced succeeds", told(two, ": 1a/1 2a/1 1a/2", "1a A1 ok", "2a A1 ok", "1a A2 ok"), "1 writes of epoch 1, 1a/2 to 1a/2, succeeded after one of epoch 2, by 2a"},
		{"two write at once, in order", told(two, "1a/2: 1a/1 2a/1", "1a A1 ok", "2a A1 ok", "1a W2 ok"), "succeeded after one of epoch 2"},

		{"write lost", told(two, "1a/1:", "1a W1 ok", "1a W2 ok", "2a R1a/1 ok"), "read of \"1a/1\" by 2a"},
		{"write lost in the end", told(two, "1a/1:", "1a W1 ok", "1a W2 ok"), "by a look"},
		{"write out of nowhere", told(two, "x:", "1a W1 ok"), "by a look"},
		{"old value read", told(two, "1a/1:", "1a W1 ok", "1a W2 ok", "1a R1a/1 ok", "1a W1 ok"), "not linearizable"},
		{"nothing read, and written after that", told(two, "1a/2:", "1a W1 ok", "1a R ok", "1a W2 ok", "1a W3 fail", "2a R1a/2 ok"), "not linearizable"},
		{"nothing read, and nobody comes", told(two, "1a/1:", "1a W1 ok", "1a R ok", "1a W2 fail"), "not linearizable"},
		{"nothing read, and no write fails", told(two, "1a/1:", "1a W1 ok", "1a R ok", "2a R1a/1 ok"), "not linearizable"},
		{"write of who was replaced happens late", told(two, "1a/2:", "1a W1 ok", "1a W2 fail", "2a R1a/1 ok", "2a W1 ok", "2a R1a/2 ok"), "not linearizable"},
		{"write called late happens", told(two, "1a/2:", "1a W1 ok", "2a W1 ok", "1a W2 fail", "2a R1a/2 ok"), "not linearizable"},
		{"one comes and goes", told(two, "1a/1:", "1a W1 ok", "1a W2 fail", "2a R1a/2 ok", "2a R1a/1 ok"), "not linearizable"},
		{"one whose writer heard nothing comes and goes", told(two, "1a/1:", "1a W1 ok", "1a W2 late9", "1a R1a/2 ok", "1a R1a/1 ok"), "not linearizable"},

		{"an epoch of two hosts", told(map[string]uint64{"1a": 1, "2a": 1}, ":", "1a R ok", "2a R ok"), "both 1 and 2 owned it in epoch 1"},
		{"an epoch that nobody knows", told(nil, ":", "1a R ok"), "nobody knows the epoch of 1a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.v.Check()
			if test.says == "" && err != nil {
				t.Errorf("sound, but: %v", err)
			}
			if test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("says %v, want %q in it", err, test.says)
			}
		})
	}
}

// What a look at a volume whose worker goes on may have seen, and what it must.
func TestLookMeanwhile(t *testing.T) {
	epochs := map[string]uint64{"1a": 1}
	ops := []string{"1a A1 ok", "1a A2 ok", "1a W3 ok", "1a A4 ok"} // at 1 to 6, 11 to 16, 21 to 26, 31 to 36
	for _, test := range []struct {
		look     string
		from, to time.Duration
		says     string
	}{
		{": 1a/1", 7, 8, ""},
		{": 1a/1", 7, 12, ""},
		{": 1a/1 1a/2", 7, 12, ""},
		{": 1a/1", 17, 18, "lost"},
		{": 1a/1 1a/2", 7, 8, "was not appended"},
		{"1a/3: 1a/1 1a/2", 22, 23, ""},
		{": 1a/1 1a/2", 22, 23, ""},
		{": 1a/1 1a/2", 27, 28, "not linearizable"},
	} {
		v := told(epochs, test.look, ops...)
		v.From, v.To = test.from, test.to
		if err := v.Check(); (test.says == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("look %q from %d to %d says %v, want %q", test.look, test.from, test.to, err, test.says)
		}
	}
}

// A long history is cut into parts, and an error is found wherever it is.
func TestLongHistory(t *testing.T) {
	const n = 5000
	build := func() Volume {
		v := Volume{Name: "v", Look: Look{From: never - 1, To: never}}
		for host := range 2 {
			worker := fmt.Sprint(host+1, "a")
			tenure := Tenure{Worker: worker, Host: worker[:1], Epoch: uint64(host + 1)}
			for i := range n / 2 {
				at := time.Duration(10 * (host*n + i))
				tenure.Ops = append(tenure.Ops, Op{Read, v.Register, at, at + 3, ""}, Op{Write, fmt.Sprint(worker, "/", i), at + 5, at + 7, ""})
				v.Register = fmt.Sprint(worker, "/", i)
			}
			v.Tenures = append(v.Tenures, tenure)
		}
		return v
	}
	if err := build().Check(); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{50, 2500, 4998} {
		v := build()
		v.Tenures[1].Ops[at].Value = "1a/17"
		if err := v.Check(); err == nil {
			t.Errorf("read of something old, number %d, was not found", at)
		}
	}
}

func TestJournal(t *testing.T) {
	text := JournalLine("call", 1, Write, "a/1") + JournalLine("done", 2, Write, "a/1") +
		JournalLine("call", 3, Read, "") + JournalLine("done", 4, Read, "a \"1\"\n") +
		JournalLine("call", 5, Append, "a/2") + JournalLine("fail", 6, Append, "input/output error") +
		JournalLine("call", 7, Read, "") + `done 8 read "a/`
	ops, err := ParseJournal(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []Op{{Write, "a/1", 1, 2, ""}, {Read, "a \"1\"\n", 3, 4, ""}, {Append, "a/2", 5, 0, "input/output error"}, {Read, "", 7, 0, ""}}
	if fmt.Sprint(ops) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", ops, want)
	}
	for _, text := range []string{
		"call 1 write\n", "call x write \"\"\n", "call 1 erase \"\"\n", "call 1 write a\n", "begin 1 write \"\"\n",
		JournalLine("done", 1, Write, ""),
		JournalLine("call", 1, Write, "") + JournalLine("done", 2, Read, ""),
		JournalLine("call", 1, Write, "") + JournalLine("call", 2, Write, ""),
	} {
		if _, err := ParseJournal(text); err == nil {
			t.Errorf("%q is no journal", text)
		}
	}
}
