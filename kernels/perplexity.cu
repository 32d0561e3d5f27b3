// How many codes are in use: exp of the entropy of the codes of a group over all sites, mean over the groups.
#include "common.cuh"

// How often each code of each group occurs.
// bound: bytes; some 100 us for the codes of a step
// launch: a thread a code, blocks of 256
extern "C" __global__ void __launch_bounds__(256) perplexity_forward_count(
    const float* __restrict__ y,      // [sites, groups * codes] one-hot, or [sites, groups] levels from -1 to 1
    const float* __restrict__ levels, // [groups] levels of each group; not read of one-hot codes
    float* __restrict__ counts,       // [groups, codes]
    int sites,                        // of all meshes
    int groups,                       // groups of classes, or channels
    int codes,                        // classes of a group, or most levels of a channel
    int one_hot                       // 1: y is one-hot, 0: levels
) {
    int code = thread_index();
    if (code >= groups * codes) return;
    int group = code / codes, count = 0;
    float half = one_hot ? 0.0f : 0.5f * (levels[group] - 1.0f);
    for (long long site = 0; site < sites; site++) {
        if (one_hot) count += y[site * groups * codes + code] > 0.5f;
        else count += (int)rintf((y[site * groups + group] + 1.0f) * half) == code % codes;
    }
    counts[code] = (float)count;
}

// bound: bytes; one block, a few microseconds
// launch: one block of 256
extern "C" __global__ void __launch_bounds__(256) perplexity_forward(
    const float* __restrict__ counts, // [groups, codes]
    float* __restrict__ perplexity,   // [1]
    int sites,                        // of all meshes
    int groups,                       // groups of classes, or channels
    int codes                         // codes of a group at most
) {
    __shared__ float warps[256 / WARP];
    float sum = 0.0f;
    for (int group = threadIdx.x; group < groups; group += 256) {
        float entropy = 0.0f;
        for (int k = 0; k < codes; k++) {
            float share = counts[(long long)group * codes + k] / sites;
            if (share > 0.0f) entropy -= share * logf(share);
        }
        sum += expf(entropy);
    }
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0) perplexity[0] = sum / groups;
}
