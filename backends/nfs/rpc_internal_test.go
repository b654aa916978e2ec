package nfs

import "testing"

func TestParseReply(t *testing.T) {
	reply := func(words ...byte) (b []byte) {
		for _, w := range words {
			b = append(b, 0, 0, 0, w)
		}
		return b
	}
	if got, err := parseReply(reply(1, 1, 0, 0, 0, 0, 7)); err != nil || len(got) != 1 || got[0] != 7 {
		t.Errorf("got %v, %v", got, err)
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "cut short": reply(1, 1, 0, 0, 0), "a call": reply(1, 0, 0, 0, 0, 0), "denied": reply(1, 1, 1, 0, 0, 0),
		"no program": reply(1, 1, 0, 0, 0, 1), "a verifier": reply(1, 1, 0, 0, 4, 0, 0), "other version": reply(1, 1, 0, 0, 0, 2, 3, 3),
	} {
		if got, err := parseReply(bad); err == nil {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
