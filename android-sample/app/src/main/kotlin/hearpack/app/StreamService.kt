package hearpack.app

import android.app.Notification
import android.app.NotificationChannel
import android.app.NotificationManager
import android.app.PendingIntent
import android.app.Service
import android.content.Context
import android.content.Intent
import android.os.IBinder

/** Keeps the microphone while the app is not on the screen; the manifest gives it the type `microphone`. */
class StreamService : Service() {
    override fun onBind(intent: Intent?): IBinder? = null

    override fun onStartCommand(
        intent: Intent?,
        flags: Int,
        startId: Int,
    ): Int {
        val manager = getSystemService(Context.NOTIFICATION_SERVICE) as NotificationManager
        val name = getString(R.string.channel)
        manager.createNotificationChannel(NotificationChannel(CHANNEL, name, NotificationManager.IMPORTANCE_LOW))
        val open = Intent(this, MainActivity::class.java)
        val notification =
            Notification
                .Builder(this, CHANNEL)
                .setSmallIcon(R.drawable.ic_mic)
                .setContentTitle(getString(R.string.app_name))
                .setContentText(getString(R.string.notification))
                .setContentIntent(PendingIntent.getActivity(this, 0, open, PendingIntent.FLAG_IMMUTABLE))
                .setOngoing(true)
                .build()
        startForeground(NOTIFICATION, notification)
        (application as HearpackApp).controller.begin()
        return START_NOT_STICKY
    }

    override fun onDestroy() {
        (application as HearpackApp).controller.stop()
        super.onDestroy()
    }

    private companion object {
        const val CHANNEL = "stream"
        const val NOTIFICATION = 1
    }
}
