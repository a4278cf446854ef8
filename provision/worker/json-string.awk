# Stdin, followed by one character that is dropped (so that newlines at the end count), as a JSON string. Run with LC_ALL=C:
# bytes above 127 are UTF-8 already and stay.
BEGIN {
  for (code = 1; code < 32; code++) control = control sprintf("%c", code)
  printf "\""
}
{
  if (NR > 1) printf "%s\\n", last
  last = escaped($0)
}
END {
  printf "%s\"", substr(last, 1, length(last) - 1)
}
function escaped(text, out, i, c, code) {
  gsub(/["\\]/, "\\\\&", text)
  if (text !~ /[\001-\037]/) return text
  out = ""
  for (i = 1; i <= length(text); i++) {
    c = substr(text, i, 1)
    code = index(control, c)
    out = out (code > 0 ? sprintf("\\u%04x", code) : c)
  }
  return out
}
