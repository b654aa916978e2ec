package host

import "testing"

func TestParseStat(t *testing.T) {
	const rest = " 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 "
	tests := []struct {
		text string
		want stat
		ok   bool
	}{
		{"7 (sleep) S" + rest + "1 0 4711 8 9\n", stat{parent: 4, start: 4711}, true},
		{"7 (a) Z 1 (b) c) R" + rest + "1 0 4711\n", stat{parent: 4, start: 4711}, true},
		{"7 (sleep) Z" + rest + "1 0 4711\n", stat{parent: 4, start: 4711, dead: true}, true},
		{"7 (sleep) Z" + rest + "0 0 4711\n", stat{parent: 4, start: 4711, dead: true}, true},
		{"7 (sleep) Z" + rest + "2 0 4711\n", stat{parent: 4, start: 4711}, true},
		{"7 (sleep) X" + rest + "1 0 4711\n", stat{parent: 4, start: 4711, dead: true}, true},
		{"7 (sleep) S" + rest + "1 0\n", stat{}, false},
		{"7 (sleep) S" + rest + "1 0 x\n", stat{}, false},
		{"7 (sleep) S x" + rest + "1 0 4711\n", stat{}, false},
		{"nothing", stat{}, false},
		{"", stat{}, false},
	}
	for _, test := range tests {
		got, err := parseStat([]byte(test.text))
		if got != test.want || (err == nil) != test.ok {
			t.Errorf("%q: got %+v, %v, want %+v", test.text, got, err, test.want)
		}
	}
}
