// -log2 of the mass that a Laplace law has within half a step of a value, for every latent entry of a mesh, mean over the meshes.
#include "channels.cuh"
#include "latent.cuh"

#define LN2 0.6931471805599453f
#define LOG2_E 1.4426950408889634f

// As src/ops/laplace_bits.rs has it.
#define LEAST_SCALE 0.0625f

// A step about a value beside the law, in scales of the law.
struct Interval {
    float scale;     // of the law: e^s and a share of the step
    float own;       // what e^s is of it
    float distance;  // of the value from the location
    float far, near; // ends of the step beyond the location; near is negative where the location lies inside
    float width;     // of the step
    bool of_scale, of_step;

    __device__ __forceinline__ Interval(float distance, float log_scale, float log_step)
        : distance(distance), of_scale(inside_log_width(log_scale)), of_step(inside_log_width(log_step)) {
        float own_scale = expf(clamped_log_width(log_scale)), step = expf(clamped_log_width(log_step));
        scale = own_scale + LEAST_SCALE * step;
        own = own_scale / scale;
        width = step / scale;
        near = (fabsf(distance) - 0.5f * step) / scale;
        far = (fabsf(distance) + 0.5f * step) / scale;
    }

    // The mass of a step about the location.
    __device__ __forceinline__ float mass_inside() const { return -0.5f * (expm1f(near) + expm1f(-far)); }

    // ln of the mass, without cancellation at either end.
    __device__ __forceinline__ float log_mass() const {
        if (near >= 0.0f) return logf(-expm1f(-width)) - near - LN2;
        float outside = 0.5f * (expf(near) + expf(-far));
        return outside < 0.5f ? log1pf(-outside) : logf(mass_inside());
    }

    // Slopes of ln of the mass: times the scale by the distance from the location, and by the logarithms of scale and step.
    __device__ __forceinline__ void slopes(float* by_distance, float* by_scale, float* by_step) const {
        if (near >= 0.0f) {
            float rest = width / expm1f(width);
            *by_distance = -1.0f, *by_scale = near - rest, *by_step = 0.5f * width + rest;
            return;
        }
        float a = expf(near), b = expf(-far), half = 0.5f / mass_inside();
        *by_distance = -half * b * expm1f(far + near);
        *by_scale = half * (near * a - far * b);
        *by_step = half * 0.5f * width * (a + b);
    }

    __device__ __forceinline__ float by_value() const {
        float distance_slope, scale_slope, step_slope;
        slopes(&distance_slope, &scale_slope, &step_slope);
        return (distance < 0.0f ? -distance_slope : distance_slope) / scale;
    }

    __device__ __forceinline__ float by_log_scale() const {
        float distance_slope, scale_slope, step_slope;
        slopes(&distance_slope, &scale_slope, &step_slope);
        return of_scale ? own * scale_slope : 0.0f;
    }

    __device__ __forceinline__ float by_log_step() const {
        float distance_slope, scale_slope, step_slope;
        slopes(&distance_slope, &scale_slope, &step_slope);
        return of_step ? step_slope + (1.0f - own) * scale_slope : 0.0f;
    }
};

// bound: operations; some 60 instructions against two or three reads a value
// launch: a thread an entry of a mesh, blocks of 256
extern "C" __global__ void __launch_bounds__(256) laplace_bits_forward(
    const float* __restrict__ y,         // [B, entries]
    const float* __restrict__ location,  // [period] in turn
    const float* __restrict__ log_scale, // [period] clamped on the way in
    const float* __restrict__ log_step,  // [C] clamped on the way in
    float* __restrict__ bits,            // [entries]
    int entries,                         // of the latent of a mesh
    int meshes,                          // B
    int period,                          // divides the entries
    int channels                         // C, divides the period
) {
    int d = thread_index();
    if (d >= entries) return;
    float m = location[d % period], s = log_scale[d % period], t = log_step[d % channels], sum = 0.0f;
    for (int b = 0; b < meshes; b++) sum += Interval(y[(long long)b * entries + d] - m, s, t).log_mass();
    bits[d] = -LOG2_E * sum / meshes;
}

// bound: operations; some 80 instructions against two or three reads and a write a value
// launch: a thread a value, blocks of 256
extern "C" __global__ void __launch_bounds__(256) laplace_bits_backward_dy(
    const float* __restrict__ y,         // [B, entries]
    const float* __restrict__ location,  // [period]
    const float* __restrict__ log_scale, // [period]
    const float* __restrict__ log_step,  // [C]
    const float* __restrict__ dbits,     // [entries] gradient of the output
    float* __restrict__ dy,              // [B, entries]
    int n,                               // B entries
    int entries,                         // of the latent of a mesh
    int period,                          // of the law
    int channels,                        // C
    int add                              // 0: overwrite, 1: add
) {
    int i = thread_index();
    if (i >= n) return;
    int p = i % period;
    float slope = Interval(y[i] - location[p], log_scale[p], log_step[i % channels]).by_value();
    accumulate(dy + i, -LOG2_E * entries / n * dbits[i % entries] * slope, add);
}

// The gradient of the locations, or of the logarithms of the scales.
// bound: operations; some 80 instructions against two reads a value, where every entry has a law of its own
// launch: a thread a law, blocks of 256
extern "C" __global__ void __launch_bounds__(256) laplace_bits_backward_law(
    const float* __restrict__ y,         // [B, entries]
    const float* __restrict__ location,  // [period]
    const float* __restrict__ log_scale, // [period]
    const float* __restrict__ log_step,  // [C]
    const float* __restrict__ dbits,     // [entries] gradient of the output
    float* __restrict__ gradient,        // [period]
    int n,                               // B entries
    int entries,                         // of the latent of a mesh
    int period,                          // of the law
    int channels,                        // C
    int of_scale,                        // 0: of the locations, 1: of the scales
    int add                              // 0: overwrite, 1: add
) {
    int p = thread_index();
    if (p >= period) return;
    float m = location[p], s = log_scale[p], t = log_step[p % channels];
    double sum = 0.0;
    for (int i = p; i < n; i += period) {
        Interval interval(y[i] - m, s, t);
        sum += (double)(dbits[i % entries] * (of_scale ? interval.by_log_scale() : -interval.by_value()));
    }
    accumulate(gradient + p, (float)(-(double)LOG2_E * entries / n * sum), add);
}

// bound: latency; some 80 instructions against four reads a value, by a block for 32 channels
// launch: ceil(C / 32) blocks of 512
extern "C" __global__ void __launch_bounds__(512) laplace_bits_backward_step(
    const float* __restrict__ y,         // [B, entries]
    const float* __restrict__ location,  // [period]
    const float* __restrict__ log_scale, // [period]
    const float* __restrict__ log_step,  // [C]
    const float* __restrict__ dbits,     // [entries] gradient of the output
    float* __restrict__ gradient,        // [C]
    int n,                               // B entries
    int entries,                         // of the latent of a mesh
    int period,                          // of the law
    int channels,                        // C
    int add                              // 0: overwrite, 1: add
) {
    int c = channel_index(), pixels = n / channels;
    double sum = 0.0;
    if (c < channels)
        for (int pixel = first_pixel(); pixel < pixels; pixel += ROWS) {
            int i = pixel * channels + c, p = i % period;
            float slope = Interval(y[i] - location[p], log_scale[p], log_step[c]).by_log_step();
            sum += (double)(dbits[i % entries] * slope);
        }
    sum = channel_sum(sum);
    if (c >= channels || first_pixel() > 0) return;
    accumulate(gradient + c, (float)(-(double)LOG2_E * entries / n * sum), add);
}
