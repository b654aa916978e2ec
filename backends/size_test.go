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
	for _, text := range []string{
		"", "0", "0G", "-1", "+1", "1.5G", " 1", "1 G", "1X", "1KK", "G", "0x10", "1e9",
		"9223372036854775808", "8192P", "9007199254740992K", "99999999999999999999",
	} {
		if got, err := ParseSize(text); err == nil || got != 0 {
			t.Errorf("ParseSize(%q) = %d, %v; want an error", text, got, err)
		}
	}
	if got, err := ParseSize("8191P"); err != nil || got != 8191<<50 {
		t.Errorf("the largest: got %d, %v", got, err)
	}
}
