package merge_test

import (
	"errors"
	"fmt"

	"github.com/skerry-sync/skerry/versions/merge"
)

func ExampleText() {
	base := []byte("flour\nmilk\neggs\n")
	laptop := []byte("flour\nmilk\neggs\nbutter\n")
	phone := []byte("flour, 500 g\nmilk\neggs\n")
	merged, err := merge.Text(base, laptop, phone)
	fmt.Printf("%s%v\n", merged, err)

	_, err = merge.Text(base, []byte("flour\nmilk, 1 l\neggs\n"), []byte("flour\noat milk\neggs\n"))
	fmt.Println(err)
	// Output:
	// flour, 500 g
	// milk
	// eggs
	// butter
	// <nil>
	// cannot merge: line 2: both sides changed it, in different ways
}

func ExampleJSON() {
	base := []byte(`{"title":"Trip","days":3,"notes":{"hotel":""}}`)
	laptop := []byte(`{"title":"Trip to Oslo","days":3,"notes":{"hotel":"","train":"9:40"}}`)
	phone := []byte(`{"title":"Trip","days":4,"notes":{"hotel":"Central"}}`)
	merged, _ := merge.JSON(base, laptop, phone)
	fmt.Printf("%s\n", merged)

	_, err := merge.JSON(base, []byte(`{"title":"Trip","days":2}`), phone)
	if c := (*merge.Conflict)(nil); errors.As(err, &c) {
		fmt.Println(c.At)
	}
	// Output:
	// {"title":"Trip to Oslo","days":4,"notes":{"hotel":"Central","train":"9:40"}}
	// /days
}

func ExampleOptions() {
	base := []byte(`[{"id":1,"task":"pack","done":false}]`)
	laptop := []byte(`[{"id":1,"task":"pack","done":true},{"id":2,"task":"book"}]`)
	phone := []byte(`[{"id":1,"task":"pack light","done":false},{"id":3,"task":"call"}]`)
	merged, _ := merge.Options{ByID: "id"}.JSON(base, laptop, phone)
	fmt.Printf("%s\n", merged)
	// Output:
	// [{"id":1,"task":"pack light","done":true},{"id":3,"task":"call"},{"id":2,"task":"book"}]
}

func ExampleSet() {
	merged, _ := merge.Set([]byte(`["a","b"]`), []byte(`["a","b","c"]`), []byte(`["b"]`))
	fmt.Printf("%s\n", merged)
	// Output: ["b","c"]
}

func ExampleCounter() {
	var laptop, phone merge.Counter
	_ = laptop.Add("laptop", 3)
	_ = phone.Add("phone", -1)
	a, _ := laptop.MarshalJSON()
	b, _ := phone.MarshalJSON()
	merged, _ := merge.Counters(nil, a, b)
	var sum merge.Counter
	_ = sum.UnmarshalJSON(merged)
	fmt.Printf("%s is %v\n", merged, sum.Value())
	// Output: {"laptop":[3,0],"phone":[0,1]} is 2
}
