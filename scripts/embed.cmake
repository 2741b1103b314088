# Writes OUTPUT, a C file that holds every Lua file of SOURCES under its module name: lua/holt/json.lua is
# "holt.json", lua/holt/init.lua is "holt". Run by the build; see CMakeLists.txt.
set(body "")
set(rows "")
set(i 0)
foreach(source ${SOURCES})
  file(RELATIVE_PATH path ${ROOT} ${source})
  string(REGEX REPLACE "\\.lua$" "" module ${path})
  string(REPLACE "/" "." module ${module})
  string(REGEX REPLACE "\\.init$" "" module ${module})
  file(READ ${source} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND body "static const unsigned char source_${i}[] = {${bytes}0};\n")
  string(APPEND rows "    {\"${module}\", \"lua/${path}\", (const char *)source_${i}, sizeof source_${i} - 1},\n")
  math(EXPR i "${i} + 1")
endforeach()
file(WRITE ${OUTPUT}
  "/* Made by scripts/embed.cmake; do not edit. */\n#include \"binding/sources.h\"\n\n${body}\nconst struct holt_lua_source holt_lua_sources[] = {\n${rows}    {0, 0, 0, 0},\n};\n")
