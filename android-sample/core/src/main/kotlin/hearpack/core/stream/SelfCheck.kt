package hearpack.core.stream

import hearpack.core.audio.Resampler
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.BundleException
import hearpack.core.bundle.BundleFault
import hearpack.core.bundle.EngineException
import hearpack.core.bundle.Fields
import hearpack.core.bundle.HIGHEST_RATE_HZ
import hearpack.core.bundle.InvalidField
import hearpack.core.bundle.LOWEST_RATE_HZ
import hearpack.core.bundle.ManifestReader
import hearpack.core.bundle.Task
import hearpack.core.bundle.isName
import hearpack.core.bundle.utf8
import kotlin.math.abs
import kotlin.math.log10

private const val MOST_STREAMS = 8 // one a rate is written

/** One golden stream of a bundle, read back. */
class GoldenStream(
    val sampleRateHz: Int,
    val samples: FloatArray,
    val output: FloatArray,
    val shape: List<Int>,
) {
    companion object {
        /** @throws BundleException golden vectors are missing, were changed, or are not what golden.json says. */
        fun read(bundle: Bundle): List<GoldenStream> {
            val file = "golden/golden.json"
            val origin = "${bundle.files.name}/$file"
            val data = ManifestReader.parseJson(bundle.files.utf8(bundle.read(file), file), origin)
            try {
                return Fields(data, "").list("streams", 1, MOST_STREAMS) { stream(bundle, it) }
            } catch (e: InvalidField) {
                throw BundleException(BundleFault.INVALID, "$origin: ${e.message}; install the bundle again", e)
            }
        }

        private fun stream(
            bundle: Bundle,
            data: Fields,
        ): GoldenStream {
            val output = bundle.manifest.outputs.first()
            val shape = data.shape("shape")
            val wanted =
                if (bundle.manifest.task ==
                    Task.CLASSIFIER
                ) {
                    listOf(shape[0], output.shape.last())
                } else {
                    shape.take(1)
                }
            if (shape != wanted) throw InvalidField("shape: $shape is not what ${output.name} gives")
            val samples = bundle.floats(vectors(data, "input"))
            if (samples.isEmpty()) throw InvalidField("input: no sample")
            val size = shape.fold(1) { product, n -> product * n }
            val expected = bundle.floats(vectors(data.inner("outputs"), output.name), size)
            for ((name, values) in listOf("input" to samples, output.name to expected)) {
                if (!values.all { it.isFinite() }) throw InvalidField("$name: a value is not finite")
            }
            return GoldenStream(
                data.int("sample_rate_hz", LOWEST_RATE_HZ, HIGHEST_RATE_HZ),
                samples,
                expected,
                shape,
            )
        }

        private fun vectors(
            data: Fields,
            name: String,
        ): String {
            val file = data.string(name)
            if (!isName(file) ||
                !file.endsWith(".f32")
            ) {
                throw InvalidField("$name: expected a .f32 of golden/, got $file")
            }
            return "golden/$file"
        }
    }
}

/**
 * What a self-check found.
 *
 * @property figure dB for audio, largest error for scores.
 * @property limit what the manifest's tolerance asks of it.
 * @property firstBadFrame index of the first frame (100 ms of audio, or a window) past the tolerance; null: passed.
 * @property firstBadSecond where it begins in the output stream.
 */
data class SelfCheckReport(
    val streams: Int,
    val metric: String,
    val figure: Double,
    val limit: Double,
    val firstBadFrame: Int?,
    val firstBadSecond: Double?,
    val nonFinite: Int,
) {
    val passed: Boolean get() = firstBadFrame == null && nonFinite == 0
}

private const val FRAME_S = 0.1
private const val CAP_DB = 200.0
private const val ACTIVE = 1e-6 // a frame 60 dB under the loudest is not judged by itself

/** Streams golden/ through the app's own resampler, loop and engine, and compares the output with golden/. */
class SelfCheck(
    private val bundle: Bundle,
    private val engine: InferenceEngine,
) {
    /**
     * @param progress gets the share done, 0 to 1.
     * @throws BundleException golden vectors are not usable.
     * @throws EngineException the engine failed.
     */
    fun run(progress: (Double) -> Unit = {}): SelfCheckReport {
        val streams = GoldenStream.read(bundle)
        val results =
            streams.mapIndexed { i, golden ->
                judge(golden, stream(golden) { progress((i + it) / streams.size) })
            }
        progress(1.0)
        val worst = results.firstOrNull { !it.passed } ?: results.first()
        return worst.copy(streams = streams.size)
    }

    private fun stream(
        golden: GoldenStream,
        progress: (Double) -> Unit,
    ): FloatArray {
        val out = FloatArray(golden.output.size)
        var filled = 0
        var given = 0
        val loop =
            StreamLoop(engine, bundle.manifest, { _, values, count ->
                val n = minOf(count, out.size - filled)
                System.arraycopy(values, 0, out, filled, n)
                filled += n
                given += count
            }, recover = false)
        val resampler = Resampler(golden.sampleRateHz, bundle.manifest.geometry.sampleRateHz)
        val block = golden.sampleRateHz / 100
        val work = FloatArray(maxOf(resampler.mostOutputs(block), resampler.mostOutputs(8192)))
        var at = 0
        while (at < golden.samples.size) {
            val n = minOf(block, golden.samples.size - at)
            loop.push(work, 0, resampler.process(golden.samples, at, n, work))
            at += n
            progress(at.toDouble() / golden.samples.size)
        }
        loop.push(work, 0, resampler.flush(work))
        loop.flush()
        if (given != out.size) {
            val message = "golden has ${out.size} values, the stream gave $given; install the bundle again"
            throw BundleException(BundleFault.MISMATCH, "${bundle.files.name}: $message")
        }
        return out
    }

    private fun judge(
        golden: GoldenStream,
        came: FloatArray,
    ): SelfCheckReport = if (golden.shape.size == 1) judgeAudio(golden, came) else judgeScores(golden, came)

    private fun limit(metric: String): Double =
        bundle.artefact.tolerance
            .find { it.metric == metric }
            ?.limit
            ?: throw BundleException(
                BundleFault.INVALID,
                "${bundle.files.name}: no tolerance for $metric; export it again",
            )

    private fun judgeAudio(
        golden: GoldenStream,
        came: FloatArray,
    ): SelfCheckReport {
        val limit = limit("snr_db")
        val rate = bundle.manifest.geometry.sampleRateHz
        val frame = (FRAME_S * rate).toInt()
        val frames = (came.size + frame - 1) / frame
        val signal = DoubleArray(frames)
        val error = DoubleArray(frames)
        for (i in came.indices) {
            val d = golden.output[i].toDouble() - came[i]
            signal[i / frame] += golden.output[i].toDouble() * golden.output[i]
            error[i / frame] += d * d
        }
        val loudest = signal.max()
        val whole = decibels(signal.sum(), error.sum())
        val odd = came.count { !it.isFinite() }
        // The limit is the whole stream's: frames are looked at only to say where it went wrong.
        val bad =
            (0 until frames).filter {
                signal[it] > ACTIVE * loudest &&
                    !(
                        decibels(
                            signal[it],
                            error[it],
                        ) >= limit
                    )
            }
        val failed = !(whole >= limit) || odd > 0
        val first = if (failed) bad.firstOrNull() ?: 0 else null
        return SelfCheckReport(1, "snr_db", whole, limit, first, first?.let { it * FRAME_S }, odd)
    }

    private fun judgeScores(
        golden: GoldenStream,
        came: FloatArray,
    ): SelfCheckReport {
        val limit = limit("score_max_abs_error")
        val labels = golden.shape.last()
        val manifest = bundle.manifest
        val errors = came.indices.map { abs(golden.output[it].toDouble() - came[it]) }
        val first = errors.indices.firstOrNull { !(errors[it] <= limit) }?.let { it / labels }
        val second = first?.let { it * manifest.hopSamples.toDouble() / manifest.geometry.sampleRateHz }
        val odd = came.count { !it.isFinite() }
        return SelfCheckReport(1, "score_max_abs_error", errors.max(), limit, first, second, odd)
    }

    private fun decibels(
        signal: Double,
        error: Double,
    ): Double =
        when {
            !signal.isFinite() || !error.isFinite() -> -CAP_DB
            error <= 0.0 -> CAP_DB
            signal <= 0.0 -> -CAP_DB
            else -> (10 * log10(signal / error)).coerceIn(-CAP_DB, CAP_DB)
        }
}
