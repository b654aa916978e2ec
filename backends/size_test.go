package backends

import "testing"

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1, "512B": 512, "1k": 1024, "3K": 3 << 10, "3Ki": 3 << 10, "3KiB": 3 << 10, "3kb": 3 << 10,
		"10M": 10 << 20, "20G": 20 << 30, "2T": 2 << 40, "1P": 1 << 50,
	} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
}
