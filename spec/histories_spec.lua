local histories = require("spec.helper.histories")

-- The checkers that judge real processes must be able to say no.
describe("a recorded history", function()
  local function refused(word, lines)
    local is_good, told = histories.check(lines)
    assert.is_false(is_good, told)
    assert.truthy(told:find(word, 1, true), told)
  end

  local function accepted(lines)
    local is_good, told = histories.check(lines)
    assert.is_true(is_good, told)
  end

  it("is accepted when one object can have answered so", function()
    accepted("call 1 1 set 5 10 7\ncall 2 2 get 5 15\nok 2 18 nil\nok 1 20 nil\ncall 3 1 get 5 30\nok 3 40 7\n")
    accepted("call 1 1 push 1 10 7\nok 1 20 any\ncall 2 2 pop 1 30\nok 2 40 7\ncall 3 2 pop 1 50\nok 3 60 nil\n")
    accepted("call 1 1 update_if 5 10 8 nil\nok 1 20 nil\ncall 2 1 remove_if 5 30 8\nok 2 40 8\n")
    accepted("")
  end)

  it("is refused when a read is stale", function()
    refused("not_linearizable", "call 1 1 set 5 10 7\nok 1 20 nil\ncall 2 2 get 5 30\nok 2 40 nil\n")
  end)

  it("is refused when an acknowledged write is lost, accepted when its outcome was never known", function()
    local rest = "call 2 1 get 5 30\nok 2 40 nil\n"
    refused("not_linearizable", "call 1 1 insert 5 10 7\nok 1 20 nil\n" .. rest)
    accepted("call 1 1 insert 5 10 7\n" .. rest)
  end)

  it("is refused when what failed for certain was done, or anything was done twice", function()
    refused("not_linearizable", "call 1 1 set 5 10 7\nfail 1 20\ncall 2 1 get 5 30\nok 2 40 7\n")
    refused(
      "not_linearizable",
      "call 1 1 set 5 10 7\nok 1 20 nil\ncall 2 1 set 5 30 8\nok 2 40 7\ncall 3 1 get 5 50\nok 3 60 7\n"
    )
  end)

  it("is refused when a queue gave an item twice, in another order, from nowhere, or lost one", function()
    local pushes = "call 1 1 push 1 10 7\nok 1 20 any\ncall 2 1 push 1 30 8\nok 2 40 any\n"
    refused("popped_twice", pushes .. "call 3 1 pop 1 50\nok 3 60 7\ncall 4 1 pop 1 70\nok 4 80 7\n")
    refused("order_inverted", pushes .. "call 3 1 pop 1 50\nok 3 60 8\ncall 4 1 pop 1 70\nok 4 80 7\n")
    refused("from_nowhere", pushes .. "call 3 1 pop 1 50\nok 3 60 9\n")
    refused("wrong_empty", pushes .. "call 3 1 pop 1 50\nok 3 60 7\ncall 4 1 pop 1 70\nok 4 80 nil\n")
  end)

  it("is refused when its lines are none, with the line", function()
    refused("line 2", "call 1 1 set 5 10 7\nok 1 soon nil\n")
    refused("line 1", "call 1 1 set 5 10\n")
    refused("line 1", "ok 1 10 nil\n")
    refused("line 2", "call 1 1 get 5 10\ncall 1 1 get 5 10\n")
    refused("line 3", "call 1 1 get 5 10\nok 1 20 nil\nok 1 30 nil\n")
    refused("line 1", "call 1 1 swap 5 10\n")
  end)
end)

describe("what emitters did", function()
  local BASE = "subscribing b 2 fire 10\nsubscribed b 2 fire 20\npublish a 1 fire 7 30\n"

  local function expect(problem, lines)
    local problems = histories.check_emitters(lines)
    assert.same({ problem }, problems)
  end

  it("is accepted when it was heard once, or the silence was told", function()
    expect(nil, BASE .. "heard b 2 fire 7 40\npublished 7 50 b;\n")
    expect(nil, BASE .. "published 7 50 ;b\n")
    expect(nil, BASE .. "unsubscribing b 2 fire 35\npublished 7 50 ;\n")
  end)

  it("is refused when somebody heard twice, early, unasked, or what was never told", function()
    expect("b heard 7 twice", BASE .. "heard b 2 fire 7 40\nheard b 2 fire 7 41\npublished 7 50 b;\n")
    expect("b heard 7 twice", BASE .. "heard b 2 fire 7 40\nheard b 3 fire 7 41\npublished 7 50 b;\n")
    expect("b heard 7 as fire at 25, told as fire at 30", BASE .. "heard b 2 fire 7 25\npublished 7 50 b;\n")
    expect("c heard 7 and had not asked for fire", BASE .. "heard b 2 fire 7 40\nheard c 3 fire 7 41\npublished 7 50 b;\n")
    expect("b heard 8, which nobody told", BASE .. "heard b 2 fire 7 40\nheard b 2 fire 8 41\npublished 7 50 b;\n")
  end)

  it("is refused when publish names one that did not hear, or leaves out one that listened", function()
    expect("b is said to have handled 7 and never heard it", BASE .. "published 7 50 b;\n")
    expect("b heard 7 after publish had returned", BASE .. "heard b 2 fire 7 60\npublished 7 50 b;\n")
    expect("publish 7 of fire left out b, which listened all the while", BASE .. "published 7 50 ;\n")
  end)
end)
