package chain

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/skerry-sync/skerry/identity/eth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type abiVectors struct {
	ABI struct {
		Selectors map[string]string
		Calls     []struct {
			Function string
			Args     []string
			Calldata string
		}
		Results []struct {
			Function, Returned string
			Decoded            any
		}
		Items []struct {
			ID string
			OK any
		} `json:"item_ids"`
	}
}

func vectors(t testing.TB) (v abiVectors) {
	b, err := os.ReadFile(filepath.Join("..", "..", "testdata", "evm", "auth.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &v))
	require.NotEmpty(t, v.ABI.Calls)
	return v
}

func address(t testing.TB, s string) eth.Address {
	a, err := eth.ParseAddress(s)
	require.NoError(t, err)
	return a
}

func TestVectors(t *testing.T) {
	v := vectors(t).ABI
	require.Equal(t, v.Selectors["ownerOf(uint256)"], "0x"+hex.EncodeToString(selectorOwnerOf[:]))
	require.Equal(
		t, v.Selectors["hasAccess(address,uint256)"], "0x"+hex.EncodeToString(selectorHasAccess[:]),
	)
	c := &EVM{}
	for _, x := range v.Calls {
		item, err := ParseItem(x.Args[len(x.Args)-1])
		require.NoError(t, err)
		made := c.call(selectorOwnerOf, item)
		if x.Function == "hasAccess" {
			made = c.call(selectorHasAccess, [32]byte(eth.Of(address(t, x.Args[0]))), item)
		}
		require.Equal(t, x.Calldata, made.params[0].(map[string]string)["data"])
	}
	for _, x := range v.Results {
		b, err := hex.DecodeString(strings.TrimPrefix(x.Returned, "0x"))
		require.NoError(t, err)
		var got any
		if x.Function == "hasAccess" {
			got, err = parseAccess(reply{result: b})
		} else {
			var a eth.Address
			a, err = parseOwner(reply{result: b})
			got = a.String()
		}
		if s, ok := x.Decoded.(string); ok && strings.HasPrefix(s, "error") {
			var contract *contractError
			require.ErrorAs(t, err, &contract, x.Returned)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, x.Decoded, got)
	}
	for _, x := range v.Items {
		item, err := ParseItem(x.ID)
		if x.OK != true {
			require.ErrorIs(t, err, ErrItem, x.ID)
			continue
		}
		require.NoError(t, err, x.ID)
		require.Equal(t, x.ID, item.String())
	}
}

// Whatever comes for a batch, it is read as one reply for each call or refused.
func FuzzParseReplies(f *testing.F) {
	f.Add(
		[]byte(`[{"id":1,"result":"0x01"},{"id":2,"error":{"code":3,"message":"x","data":"0x"}}]`), 2,
	)
	f.Add([]byte(`{"error":{"code":-32600,"message":"x"}}`), 1)
	f.Fuzz(func(t *testing.T, b []byte, count int) {
		count = max(0, min(count, 10))
		all, err := parseReplies(b, count)
		if err == nil && len(all) != count {
			t.Fatal("not one for each")
		}
	})
}
