package hearpack.app

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import hearpack.android.Bundles
import hearpack.android.ProcessClock
import hearpack.core.bundle.Task
import hearpack.core.stream.SelfCheck
import hearpack.core.stream.openBest
import hearpack.core.trace.TraceRecorder
import org.junit.Assert.assertNotNull
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith

/** Each installed bundle's golden vectors, through LiteRT's own library on a device or an emulator. */
@RunWith(AndroidJUnit4::class)
class GoldenOnDeviceTest {
    private fun check(task: Task) {
        val bundles = Bundles(InstrumentationRegistry.getInstrumentation().targetContext)
        val bundle = bundles.find(task)
        assertNotNull("install a bundle first: hearpack install BUNDLE --android android-sample", bundle)
        openBest(bundle!!, bundles, ProcessClock, TraceRecorder(0)).engine.use {
            val report = SelfCheck(bundle, it).run()
            assertTrue(report.toString(), report.passed)
        }
    }

    @Test fun theClassifier() = check(Task.CLASSIFIER)

    @Test fun theEnhancer() = check(Task.ENHANCER)
}
