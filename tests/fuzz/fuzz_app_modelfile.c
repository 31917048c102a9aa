/* fuzz_app_modelfile.c - Modelfiles. What was read has a FROM, and parameters that pass their
 * check.
 */
#include "app/defaults.h"
#include "app/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    modelfile f = { 0 };
    sl_err err = { 0 };
    const char *name;
    json_t *v;

    if (modelfile_parse((const char *)data, size, &f, &err) != SL_OK) {
        SL_ASSERT(err.text[0]);
        return 0;
    }
    SL_ASSERT(f.from);
    json_object_foreach(f.parameters, name, v)
        SL_ASSERT(model_parameter_check(name, v, NULL) == SL_OK);
    modelfile_deinit(&f);
    return 0;
}
