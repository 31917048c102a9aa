/* fuzz_llm_trace.c - traceparent headers. */
#include "llm/llm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[256];
    llm_trace t;

    if (size >= sizeof text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    if (llm_trace_parse(text, &t)) {
        SL_ASSERT(strlen(t.id) == 32 && strspn(t.id, "0123456789abcdef") == 32);
        SL_ASSERT(strlen(t.parent) == 16 && strspn(t.id, "0") < 32);
        SL_ASSERT(strncmp(text + 3, t.id, 32) == 0);
    } else {
        SL_ASSERT(!t.id[0] && !t.parent[0] && !t.is_sampled);
    }
    return 0;
}
